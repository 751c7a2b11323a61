package attest_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

func answering() attest.Channel {
	return attest.Channel{Role: attest.RoleServe, SPKI: []byte("spki"), Exporter: [32]byte{1, 2, 3}}
}

// Both ends compute the answer with the same code, so only a value from
// elsewhere shows that it covers what it should. This one is of:
//
//	HMAC-SHA256("secret", each of "shed/activation/1", 01, "ak", "spki",
//	010203 and 29 zeros, behind its length as a big-endian uint32)
func TestActivationAnswer(t *testing.T) {
	const want = "929528e690bce1de27a0234286486b8756df915b115ebcb6817f7b2b3974ca20"
	if got := answering().ActivationAnswer([]byte("secret"), []byte("ak")); got.String() != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// An answer is good for one secret, key and connection, wherever one field
// ends and the next begins.
func TestActivationAnswerCoversEachField(t *testing.T) {
	secret, name := []byte("secret"), []byte("ak")
	role, spki, exporter := answering(), answering(), answering()
	role.Role, spki.SPKI, exporter.Exporter[0] = attest.RoleEnrol, []byte("other"), 9
	seen := map[attest.Digest]string{answering().ActivationAnswer(secret, name): "itself"}
	for what, answer := range map[string]attest.Digest{
		"role":     role.ActivationAnswer(secret, name),
		"spki":     spki.ActivationAnswer(secret, name),
		"exporter": exporter.ActivationAnswer(secret, name),
		"secret":   answering().ActivationAnswer([]byte("other"), name),
		"ak name":  answering().ActivationAnswer(secret, []byte("other")),
		"boundary": attest.Channel{Role: attest.RoleServe, SPKI: []byte("pki"), Exporter: [32]byte{1, 2, 3}}.ActivationAnswer(secret, []byte("aks")),
	} {
		if as, twice := seen[answer]; twice {
			t.Errorf("another %s has the same answer as %s", what, as)
		}
		seen[answer] = what
	}
}
