package signup_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator/signup"
)

// A message is taken for signed by nothing but the secret's own signature of just
// its id, time and body.
func FuzzCheck(f *testing.F) {
	text, err := signup.NewSecret(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	secret, err := signup.ParseSecret(text)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_777_626_000, 0)
	h, err := secret.Sign("msg_1", now, []byte(`{}`))
	if err == nil {
		_, err = secret.Check(h, []byte(`{}`), now)
	}
	if err != nil {
		f.Fatal(err)
	}
	stamp, signature := h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")
	for _, c := range [][3]string{
		{"msg_1", stamp, signature}, {"msg_1", stamp, "v1,AAAA v2,x " + signature}, {"msg_2", stamp, signature}, {"msg_1", "1777626001", signature},
		{"msg_1", "+" + stamp, signature}, {"msg_1", stamp, ""}, {"msg_1", stamp, "v1," + strings.Repeat("A", 44)}, {"", "", "v1"},
	} {
		f.Add(c[0], c[1], c[2], []byte(`{}`))
	}
	f.Fuzz(func(t *testing.T, id, stamp, signature string, body []byte) {
		h := http.Header{}
		h.Set("Webhook-Id", id)
		h.Set("Webhook-Timestamp", stamp)
		h.Set("Webhook-Signature", signature)
		got, err := secret.Check(h, body, now)
		if err != nil {
			if !errors.Is(err, signup.ErrSignature) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		seconds, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		own, err := secret.Sign(id, time.Unix(seconds, 0), body)
		if err != nil || got != id || !slices.Contains(strings.Split(signature, " "), own.Get("Webhook-Signature")) {
			t.Errorf("%q at %q with %q is taken: %v", id, stamp, signature, err)
		}
	})
}
