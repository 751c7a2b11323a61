package libvirt

import (
	"context"
	"fmt"
	"io"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
)

// consolePoll is how often a reader who follows looks for more.
const consolePoll = 200 * time.Millisecond

// Console reads what the machine has printed, which its host keeps as a volume.
func (p *Provider) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	c, err := p.configured()
	if err != nil {
		return nil, err
	}
	f, err := p.find(ctx, c, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() { w.CloseWithError(f.printed(ctx, w, follow)) }()
	return &console{PipeReader: r, cancel: cancel}, nil
}

// console ends its writer when it is closed.
type console struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (c *console) Close() error {
	c.cancel()
	return c.PipeReader.Close()
}

// printed writes what the machine has printed, and goes on with follow until
// ctx ends.
func (f found) printed(ctx context.Context, w io.Writer, follow bool) error {
	tick := time.NewTicker(consolePoll)
	defer tick.Stop()
	var done uint64
	for {
		more, err := f.more(ctx, w, &done)
		if err != nil || (!follow && !more) {
			return err
		}
		if more {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// consolePiece bounds what is held of a console at a time.
const consolePiece = 1 << 20

// more writes the next piece and reports whether there was one. A console that
// has become shorter was begun anew.
func (f found) more(ctx context.Context, w io.Writer, done *uint64) (more bool, err error) {
	var text string
	err = f.host.do(ctx, "reading a console", func(l *link) error {
		vol, err := l.StorageVolLookupByName(l.files.StoragePool, f.volume(kindConsole))
		if is(err, libvirt.ErrNoStorageVol) {
			return nil
		}
		if err != nil {
			return err
		}
		_, _, size, err := l.StorageVolGetInfoFlags(vol, uint32(libvirt.StorageVolGetPhysical))
		if err != nil {
			return err
		}
		if size < *done {
			*done = 0
		}
		if size == *done {
			return nil
		}
		text, err = l.readPiece(vol, *done, min(size-*done, consolePiece))
		return err
	})
	if err != nil {
		return false, asking(err)
	}
	*done += uint64(len(text))
	if _, err := io.WriteString(w, text); err != nil {
		return false, fmt.Errorf("passing the console on: %w", err)
	}
	return text != "", nil
}
