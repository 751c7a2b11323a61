package attest_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// An answer to a challenge is good for one role, key and connection: whatever
// differs, and wherever one field ends and the next begins, it is another.
func TestActivationAnswerNamesTheChannel(t *testing.T) {
	base := attest.Channel{Role: attest.RoleServe, SPKI: []byte{1, 2}, Exporter: [32]byte{3}}
	secret, name := []byte("secret"), []byte{4, 5}
	role, key, connection := base, base, base
	role.Role = attest.RoleEnrol
	key.SPKI = []byte{1, 3}
	connection.Exporter[31]++
	shorter := base
	shorter.SPKI = []byte{2}
	want := base.ActivationAnswer(secret, name)
	for what, got := range map[string]attest.Digest{
		"role":       role.ActivationAnswer(secret, name),
		"key":        key.ActivationAnswer(secret, name),
		"connection": connection.ActivationAnswer(secret, name),
		"ak name":    base.ActivationAnswer(secret, []byte{4, 6}),
		"secret":     base.ActivationAnswer([]byte("secreu"), name),
		"boundary":   shorter.ActivationAnswer(secret, []byte{4, 5, 1}),
	} {
		if got == want {
			t.Errorf("%s: another one gets the same answer", what)
		}
	}
}
