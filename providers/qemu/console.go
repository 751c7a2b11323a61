package qemu

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const (
	// maxConsoleBytes is what a machine may fill with what it prints; past
	// it, what was printed so far is dropped.
	maxConsoleBytes = 16 << 20
	// consoleCheck is how often sizes are looked at, consolePoll how often a
	// reader who follows looks for more.
	consoleCheck = 5 * time.Second
	consolePoll  = 200 * time.Millisecond
)

// Console reads what the machine has printed since it was made, over all its
// starts.
func (p *Provider) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	c, err := p.configured()
	if err != nil {
		return nil, err
	}
	if _, ok := p.find(id); !ok {
		return nil, sdk.NotFound(id)
	}
	f, err := os.OpenFile(filepath.Join(c.machineDir(id), consoleFile), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, failure(err, "opening the console")
	}
	if !follow {
		return f, nil
	}
	return &follower{ctx: ctx, file: f}, nil
}

// follower goes on reading at the end of a file until its context ends.
type follower struct {
	ctx  context.Context //nolint:containedctx // it ends the reads, which take none
	file *os.File
	read int64
}

func (f *follower) Read(b []byte) (int, error) {
	tick := time.NewTicker(consolePoll)
	defer tick.Stop()
	for {
		n, err := f.file.ReadAt(b, f.read)
		f.read += int64(n)
		if n > 0 {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		if info, err := f.file.Stat(); err == nil && info.Size() < f.read {
			f.read = 0
		}
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			return 0, io.EOF
		}
	}
}

func (f *follower) Close() error { return f.file.Close() }

// watchConsoles keeps machines from filling the disk with what they print.
func (p *Provider) watchConsoles(c *config) {
	tick := time.NewTicker(consoleCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.life.Done():
			return
		}
		for _, id := range p.ids() {
			if err := boundLog(filepath.Join(c.machineDir(id), consoleFile)); err != nil {
				p.opts.Log.Warn("bounding a console", zap.String("machine", string(id)), zap.Error(err))
			}
		}
	}
}

// boundLog empties a log that has grown too large. QEMU appends, so what it
// prints next starts the file anew.
func boundLog(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= maxConsoleBytes {
		return err
	}
	return os.Truncate(path, 0)
}
