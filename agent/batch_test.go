package agent_test

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// quoting counts quotes, and holds the first until it is let go.
type quoting struct {
	transport.TPM
	quotes  atomic.Int64
	release chan struct{}
}

func (q *quoting) Send(command []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCQuote && q.quotes.Add(1) == 1 {
		<-q.release
	}
	return q.TPM.Send(command)
}

// arriving lets the first quote go once all have asked.
type arriving struct {
	*agent.Machine
	asked   atomic.Int64
	all     int64
	release func()
}

func (a *arriving) Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error) {
	if a.asked.Add(1) == a.all {
		a.release()
	}
	return a.Machine.Evidence(ch, nonce)
}

// Many who ask at once cost few quotes, and each gets evidence for its own
// connection and nonce.
func TestManyCallersShareAQuote(t *testing.T) {
	const callers = 64
	m := newMachine(t)
	q := &quoting{release: make(chan struct{})}
	m.wrap = func(device transport.TPM) transport.TPM {
		q.TPM = device
		return q
	}
	m.reboot()
	a := &arriving{Machine: m.Machine, all: callers, release: sync.OnceFunc(func() { close(q.release) })}
	at := parse(t, serveMachine(t, m, a))
	errs := make(chan error, callers)
	for n := range callers {
		go func() { errs <- ask(t, at, attest.Nonce{byte(n), 1}) }()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	// Those who ask while the first is quoted share the second; some may come
	// a moment later.
	if got := q.quotes.Load(); got > 8 {
		t.Errorf("%d callers cost %d quotes", callers, got)
	}
}

// ask asks a machine at an address for evidence on a connection of its own.
func ask(t *testing.T, at *url.URL, nonce attest.Nonce) error {
	conn, err := channel.Dial(t.Context(), at)
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := conn.Call(t.Context(), "GET", fmt.Sprintf("%s?nonce=%x", channel.EvidencePath, nonce[:]), "", nil, evidence.MaxBytes)
	if err != nil {
		return err
	}
	e, err := evidence.Decode(b)
	if err != nil {
		return err
	}
	leaf := conn.Channel.Leaf(nonce, e.Config, e.Claim)
	if _, err := e.Batch.Root(leaf); e.Nonce != nonce || err != nil {
		return fmt.Errorf("evidence for nonce %x: %w", e.Nonce, err)
	}
	return nil
}
