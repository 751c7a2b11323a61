// Package standin is a stand-in for AWS, for tests: moto's server, which is not
// ours, behind a proxy of ours that holds what moto is known to ignore and that
// misbehaves when it is asked to.
//
// It is no AWS. What the proxy adds is written from AWS's documentation, with
// its address beside each rule, and no instance of it boots, but where a test has
// guests run for them (package guest): what only the real cloud can show is in
// docs/aws.md. Invariants: it listens on loopback alone;
// what it does not know it hands to moto unchanged; a fault happens once, or
// until Clear, and only when it was asked for; and it remembers every action
// that was called by the name that IAM gives it.
package standin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/providers/providertest"
)

// Options say what a Cloud is made of.
type Options struct {
	// Python is the interpreter that moto is installed for (SHED_MOTO).
	Python string
	// MachineTag is the tag whose value is a machine's id: faults that happen
	// to a machine find it so.
	MachineTag string
	// DriftTag is the tag that FaultDrift takes away.
	DriftTag string
	// Limits multiply the documented rates of the API; 0 for no limits.
	Limits float64
	// The clock of the limits and of the faults.
	Now func() time.Time
	// Guests boot the instances; nil where none does.
	Guests Guests
}

// Cloud is one running stand-in.
type Cloud struct {
	o    Options
	moto *moto
	http *http.Server
	// URL is where both the EC2 and the EBS API are.
	URL string

	// run serialises what makes instances and snapshots: a token that is used
	// twice at once is used once.
	run sync.Mutex

	mu sync.Mutex
	// The fields below are guarded by mu.
	actions   map[string]bool
	tokens    map[string]token
	cpu       map[string]cpuOptions
	images    map[string]image
	snapshots map[string]*snapshot
	reasons   map[string]stateReason
	// keys are the endorsement keys of instances that no guest runs for.
	keys map[string][]byte
	// loopback are the addresses of guests by machine, public by the Elastic IP
	// address that leads there.
	loopback, public map[string]string
	buckets          map[string]*bucket
	trouble          trouble
	requests         int
}

var _ providertest.Injector = (*Cloud)(nil)

// Start starts moto and the proxy. Whoever starts it closes it.
func Start(ctx context.Context, o Options) (*Cloud, error) {
	m, err := startMoto(ctx, o.Python)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, m.stop())
	}
	c := &Cloud{
		o: o, moto: m, URL: "http://" + l.Addr().String(),
		actions: map[string]bool{}, tokens: map[string]token{}, cpu: map[string]cpuOptions{},
		images: map[string]image{}, snapshots: map[string]*snapshot{}, reasons: map[string]stateReason{},
		buckets: map[string]*bucket{}, keys: map[string][]byte{},
		loopback: map[string]string{}, public: map[string]string{},
	}
	c.http = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = c.http.Serve(l) }()
	return c, nil
}

// Close ends both.
func (c *Cloud) Close() error {
	return errors.Join(c.http.Close(), c.moto.stop())
}

// Actions are the permissions that what was called so far needs, as IAM names
// them, in order.
func (c *Cloud) Actions() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for a := range c.actions {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

func (c *Cloud) called(actions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range actions {
		c.actions[a] = true
	}
}
