package sqlite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// A row's document is refused, or is the same instance after any number of
// writings.
func FuzzDecode(f *testing.F) {
	now := time.Date(2026, 5, 1, 9, 0, 0, 7, time.UTC)
	good, err := encode(orchestrator.Instance{
		ID: "a", User: "amara", Desired: orchestrator.Present, State: orchestrator.StateWaiting, CreatedAt: now,
		Machine: "m", Generation: 3, Reason: "because", Plan: orchestrator.Plan{Config: []byte{1}, DataBytes: 7, TokenHash: attest.Digest{9}},
		Enrolment: orchestrator.Enrolment{EK: attest.Digest{5}, AK: []byte{6}, Judged: true, LastSeen: now},
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		good, good[:len(good)/2], strings.Replace(good, `"format":5`, `"format":6`, 1), strings.Replace(good, `"format":5`, `"format":5,"colour":1`, 1),
		good + good, `{"format":5}`, `{"format":5,"format":5}`, `[]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		i, err := decode(text)
		if err != nil {
			if !errors.Is(err, errFormat) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		first, err := encode(i)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(first)
		if err != nil {
			t.Fatalf("%q: what is written is refused: %v", first, err)
		}
		if second, err := encode(again); err != nil || second != first {
			t.Errorf("%q became %q, %v", first, second, err)
		}
	})
}
