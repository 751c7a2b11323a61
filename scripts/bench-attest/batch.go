package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// The callers at once, and how long each side is measured in one of the turns.
const (
	callers    = 2048
	batchTurns = 5
	turn       = 400 * time.Millisecond
)

// batch compares evidence issued a second, each for a nonce and an exporter of
// its own, with TPM2_Quote alone on the same TPM.
func batch() (r ratio, ok bool, err error) {
	err = within(func(b *testing.B) error {
		m := verifiertest.Boot(b)
		terms, err := logged(b, m, m.Policy())
		if err != nil {
			return err
		}
		quotes, err := newQuoter(m)
		if err != nil {
			return err
		}
		var issued, quoted float64
		verified := 0
		for n := range batchTurns {
			count, took, some, err := issue(m, n)
			if err != nil {
				return err
			}
			issued += float64(count) / took.Seconds()
			// All of it, and before the next turn, so that it need not be kept.
			if err := verifyAll(terms, some); err != nil {
				return err
			}
			verified += len(some)
			rate, err := quotes.rate()
			if err != nil {
				return err
			}
			quoted += rate
		}
		r = ratio{Value: issued / batchTurns, Floor: quoted / batchTurns, Ratio: issued / quoted}
		ok = r.Ratio >= batchAtLeast
		fmt.Printf("%-6s %8.0f pieces of evidence a second, TPM2_Quote alone %.0f: %.1f (at least %d), %d of them verified\n",
			"batch", r.Value, r.Floor, r.Ratio, batchAtLeast, verified)
		return nil
	})
	return r, ok, err
}

// issue has many callers ask one after another for as long as a turn.
func issue(m *verifiertest.Machine, turnNumber int) (count int, took time.Duration, kept []verifiertest.Input, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for caller := range callers {
		all.Go(func() {
			own, some, failed := ask(m, turnNumber, caller, begun.Add(turn))
			mu.Lock()
			defer mu.Unlock()
			count, kept = count+own, append(kept, some...)
			if failed != nil {
				err = failed
			}
		})
	}
	all.Wait()
	return count, time.Since(begun), kept, err
}

func ask(m *verifiertest.Machine, turnNumber, caller int, until time.Time) (count int, kept []verifiertest.Input, err error) {
	for time.Now().Before(until) {
		in := verifiertest.Input{Channel: m.Channel}
		binary.BigEndian.PutUint32(in.Nonce[:], uint32(turnNumber))
		binary.BigEndian.PutUint32(in.Nonce[4:], uint32(caller))
		binary.BigEndian.PutUint32(in.Nonce[8:], uint32(count))
		copy(in.Channel.Exporter[1:], in.Nonce[:])
		in.Evidence, err = m.TPM.Evidence(attester.Subject{
			Channel: in.Channel, Nonce: in.Nonce, Config: attest.ConfigDigest(m.Config), ReferenceValues: m.Values,
		})
		if err != nil {
			return count, kept, err
		}
		kept = append(kept, in)
		count++
	}
	return count, kept, nil
}

func verifyAll(terms bundle.Terms, all []verifiertest.Input) error {
	for i, in := range all {
		if err := accept(terms, in); err != nil {
			return fmt.Errorf("evidence %d of %d: %w", i, len(all), err)
		}
	}
	return nil
}

// quoter quotes on a machine's TPM with a key of the attestation key's kind.
type quoter struct {
	m   *verifiertest.Machine
	key tpm2.NamedHandle
}

func newQuoter(m *verifiertest.Machine) (*quoter, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.AKTemplate())}.Execute(m.Device)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return &quoter{m: m, key: tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}}, nil
}

// rate is TPM2_Quote a second, one after another.
func (q *quoter) rate() (float64, error) {
	count := 0
	begun := time.Now()
	for ; time.Since(begun) < turn; count++ {
		_, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: q.key.Handle, Name: q.key.Name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: make([]byte, 32)},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      tpm.PCRSelection(),
		}.Execute(q.m.Device)
		if err != nil {
			return 0, fmt.Errorf("quoting: %w", err)
		}
	}
	return float64(count) / time.Since(begun).Seconds(), nil
}
