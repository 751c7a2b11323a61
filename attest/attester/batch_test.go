package attester_test

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// held counts TPM2_Quote and holds each until the test lets it go.
type held struct {
	transport.TPM
	quotes  atomic.Int32
	arrived chan struct{}
	release chan struct{}
}

const commandQuote = 0x158

func (h *held) Send(command []byte) ([]byte, error) {
	if len(command) >= 10 && binary.BigEndian.Uint32(command[6:]) == commandQuote {
		h.quotes.Add(1)
		h.arrived <- struct{}{}
		<-h.release
	}
	return h.TPM.Send(command)
}

func subject(n byte) attester.Subject {
	return attester.Subject{
		Channel: attest.Channel{Role: attest.RoleServe, SPKI: []byte("key"), Exporter: [32]byte{n + 1}}, Nonce: attest.Nonce{n},
	}
}

// Who asks waits for the quote that is under way and their own: all who came
// meanwhile share the next.
func TestOneQuoteAnswersAllWhoAskMeanwhile(t *testing.T) {
	device := &held{TPM: swtpmtest.Start(t), arrived: make(chan struct{}), release: make(chan struct{})}
	tpm, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	const meanwhile = 20
	pieces := make([][]byte, meanwhile+1)
	var all sync.WaitGroup
	ask := func(n int) {
		all.Go(func() {
			var err error
			if pieces[n], err = tpm.Evidence(subject(byte(n))); err != nil {
				t.Error(err)
			}
		})
	}
	ask(0)
	<-device.arrived
	for n := range meanwhile {
		ask(n + 1)
	}
	tpm.WaitJoined(meanwhile)
	device.release <- struct{}{}
	<-device.arrived
	device.release <- struct{}{}
	all.Wait()
	if got := device.quotes.Load(); got != 2 {
		t.Errorf("%d quotes, want 2", got)
	}
	seen := map[uint32]bool{}
	for n, b := range pieces {
		e, err := evidence.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		want := uint32(meanwhile)
		if n == 0 {
			want = 1
		} else if seen[e.Batch.Index] {
			t.Errorf("two pieces have place %d", e.Batch.Index)
		}
		if n > 0 {
			seen[e.Batch.Index] = true
		}
		if e.Batch.Count != want {
			t.Errorf("piece %d is one of %d, want %d", n, e.Batch.Count, want)
		}
	}
}
