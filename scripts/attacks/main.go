// Command attacks tries the attack corpus against the verifier, for make
// attacks.
//
// Invariants: every attack has a twin that differs in what is attacked alone
// and is accepted; an attack counts as refused only for the reason that it was
// made for; vendors' signatures are made under roots that this process drew, so
// that they are never the reason unless they are what is attacked.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "attacks: %v\n", err)
		os.Exit(1)
	}
}

// tally is the last line.
type tally struct {
	Cases       int `json:"cases"`
	Refused     int `json:"refused"`
	WrongReason int `json:"wrong_reason"`
	Good        int `json:"good"`
	Accepted    int `json:"accepted"`
}

// least is the fewest cases that the corpus may have.
const least = 400

var errHolds = errors.New("what the corpus claims does not hold")

func run() error {
	testing.Init()
	var t tally
	for _, group := range []struct {
		name string
		make func(testing.TB) ([]attack, error)
	}{
		{"tpm", onTPM}, {"snp", onSNP}, {"tdx", onTDX}, {"nitrotpm", onNitro}, {"azure-snp", onAzureSNP}, {"azure-tdx", onAzureTDX}, {"google", onGoogle},
		{"booted", onCaptured}, {"volume", onVolume}, {"log", onLog}, {"client", onClient},
	} {
		attacks, err := within(group.make)
		if err != nil {
			return fmt.Errorf("%s: %w", group.name, err)
		}
		for _, a := range attacks {
			t.try(group.name, a)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if t.Cases < least || t.Refused != t.Cases || t.WrongReason > 0 || t.Good != t.Accepted {
		return errHolds
	}
	return nil
}

// try looks at the twin and at the attack.
func (t *tally) try(group string, a attack) {
	t.Cases++
	t.Good++
	twin, attacked := a.twin(), a.attacked()
	if twin.accepted {
		t.Accepted++
	}
	result := "refused"
	switch {
	case !twin.accepted:
		result = "TWIN REFUSED: " + twin.said()
	case attacked.accepted:
		result = "ACCEPTED"
	case !a.reason.is(attacked):
		t.Refused++
		t.WrongReason++
		result = "WRONG REASON"
	default:
		t.Refused++
	}
	fmt.Printf("%-9s %-44s %-8s %s\n", group, a.name, result, attacked.said())
}

// within gives f a real testing.TB, which the software TPM and the stand-ins
// need. What they start ends with it, so the attacks are worked out within too.
func within(f func(testing.TB) ([]attack, error)) ([]attack, error) {
	var attacks []attack
	var err error
	done := false
	testing.Benchmark(func(b *testing.B) {
		if !done {
			done = true
			attacks, err = f(b)
		}
	})
	if err == nil && len(attacks) == 0 {
		return nil, errors.New("it could not be set up")
	}
	return attacks, err
}
