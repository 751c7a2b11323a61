package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// host is a host and the way to it.
type host struct {
	hostSettings
	// making lets one machine at a time be given room and a port here.
	making sync.Mutex

	mu sync.Mutex
	// mu guards link, which is nil where there is no connection, and images,
	// which are those that were seen: they never change.
	link   *link
	images map[attest.ReleaseDigest]sdk.ImageInfo
}

// link is a connection, with what does not change while it lasts.
type link struct {
	*libvirt.Libvirt
	uri    string
	keeper *keeper
	// pool and files are the host's two pools, which may be one.
	pool, files pool
}

// streamPatience is how long a piece of a volume may take to be sent.
const streamPatience = time.Minute

func newLink(uri string) (*link, error) {
	d, err := dialer(uri)
	if err != nil {
		return nil, err
	}
	l := &link{uri: uri, keeper: &keeper{Dialer: d}}
	l.Libvirt = libvirt.NewWithDialer(l.keeper)
	return l, nil
}

// stream has f send or receive a volume's contents over a connection of its
// own: the client does not tell a daemon that it has read to the end, and only
// with the connection the daemon closes the volume's file.
func (l *link) stream(f func(s *libvirt.Libvirt) error) error {
	s, err := newLink(l.uri)
	if err != nil {
		return err
	}
	s.keeper.streams = true
	defer s.cut()
	ctx, cancel := context.WithTimeout(context.Background(), streamPatience)
	defer cancel()
	return wait(ctx, func() error {
		if err := s.ConnectToURI(libvirt.QEMUSystem); err != nil {
			return err
		}
		return f(s.Libvirt)
	})
}

// cut ends a connection without asking the other end, which may hang.
func (l *link) cut() { l.keeper.cut() }

// dialPatience is how long a host may take to answer at first.
const dialPatience = 15 * time.Second

// reach answers the connection, and makes one where there is none. Errors are
// CodeUnavailable: nothing was done.
func (h *host) reach(ctx context.Context) (*link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link != nil && h.link.IsConnected() {
		return h.link, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	l, err := newLink(h.URI)
	if err != nil {
		return nil, providers.Errorf(providers.CodeInvalid, "host %s: %s", h.Name, err)
	}
	err = wait(ctx, func() error {
		if err := l.ConnectToURI(libvirt.QEMUSystem); err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		return h.findPools(l)
	})
	if err != nil {
		l.cut()
		return nil, h.unreachable(err)
	}
	h.link = l
	return l, nil
}

// unreachable is the error of a host that does not answer, or not as it should.
func (h *host) unreachable(err error) error {
	var known *providers.Error
	if errors.As(err, &known) {
		return err
	}
	code := codeOf(err)
	if code == providers.CodeInternal || code == providers.CodeNotFound {
		code = providers.CodeUnavailable
	}
	return &providers.Error{
		Code: code, Scope: providers.ScopeRegion,
		Message: fmt.Sprintf("host %s (%s): %s", h.Name, h.URI, err),
		Hint:    h.look(),
	}
}

// look is the hint for a host that does not answer.
func (h *host) look() string {
	return "see that libvirtd runs there and that this machine may use it: virsh --connect '" + h.URI + "' pool-list"
}

// wait runs f, and stops waiting for it when ctx ends.
func wait(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// do makes calls over the connection, and stops waiting for them when ctx ends.
// One that was waited for past its deadline hangs: the connection is given up.
// doing is for errors.
func (h *host) do(ctx context.Context, doing string, f func(l *link) error) error {
	l, err := h.reach(ctx)
	if err != nil {
		return err
	}
	err = wait(ctx, func() error { return f(l) })
	if errors.Is(err, context.DeadlineExceeded) {
		h.drop(l)
	}
	return h.failure(err, doing)
}

// drop gives up a connection.
func (h *host) drop(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link == l {
		h.link = nil
	}
	l.cut()
}

// close ends the connection.
func (h *host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link != nil {
		h.link.cut()
		h.link = nil
	}
}
