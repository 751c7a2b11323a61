package enrol

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	// filesAtOnce is how many machines are sent parts of files side by side, and
	// fileTurn how long one waits for its turn: whoever is slow to take its part
	// holds up nobody's heartbeat.
	filesAtOnce = 16
	fileTurn    = 10 * time.Second
)

// turns lets so many machines in at once, and each of them once.
type turns struct {
	free chan struct{}
	mu   sync.Mutex
	// inside are the machines that have a turn or wait for one. Guarded by mu.
	inside map[providers.MachineID]bool
}

func newTurns(n int) *turns {
	return &turns{free: make(chan struct{}, n), inside: make(map[providers.MachineID]bool)}
}

// errBusy turns a machine away for a moment.
var errBusy = problem.New(http.StatusServiceUnavailable, "busy", "too many machines are being updated at once")

// take waits for a turn, which give ends. The error is errBusy where none came in
// time, or the machine has one.
func (t *turns) take(ctx context.Context, id providers.MachineID) (give func(), err error) {
	if !t.enter(id) {
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, fileTurn)
	defer cancel()
	select {
	case t.free <- struct{}{}:
		return func() { <-t.free; t.leave(id) }, nil
	case <-ctx.Done():
		t.leave(id)
		return nil, errBusy
	}
}

func (t *turns) enter(id providers.MachineID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inside[id] {
		return false
	}
	t.inside[id] = true
	return true
}

func (t *turns) leave(id providers.MachineID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.inside, id)
}

// updateFile sends a part of one of the offered release's files.
func (s *Server) updateFile(w http.ResponseWriter, r *http.Request) {
	var in api.UpdateFileRequest
	err := decode(w, r, &in)
	if err == nil {
		err = s.sendFile(w, r, in)
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, in api.UpdateFileRequest) error {
	i, rel, err := s.offered(r, in.Machine, in.Release)
	if err != nil {
		return err
	}
	give, err := s.files.take(r.Context(), i.Machine)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		return err
	}
	defer give()
	f, size, err := openBeside(rel, in.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if in.Offset < 0 || in.Offset > size {
		return problem.New(http.StatusUnprocessableEntity, "offset-invalid", fmt.Sprintf("offset is %d, and the file has %d bytes", in.Offset, size))
	}
	n := min(size-in.Offset, api.MaxChunkBytes)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	// What is cut off here is short of its length, and the machine asks again.
	_, _ = io.Copy(w, io.NewSectionReader(f, in.Offset, n))
	return nil
}

// openBeside opens one of the release's files beside its disk, where nothing else
// can be reached by its name.
func openBeside(rel orchestrator.Release, name string) (*os.File, int64, error) {
	m, err := release.ParseManifest(rel.Manifest)
	if err != nil {
		return nil, 0, fmt.Errorf("reading a stored manifest: %w", err)
	}
	want, ok := m.ServedFile(name)
	if !ok {
		return nil, 0, problem.New(http.StatusNotFound, "file-unknown", "the release names no such file")
	}
	dir, err := os.OpenRoot(filepath.Dir(rel.DiskPath))
	if err != nil {
		return nil, 0, fmt.Errorf("opening the directory of release %s: %w", rel.Digest, err)
	}
	defer dir.Close() //nolint:errcheck // it was only looked into
	// A pipe in the file's place would be waited for.
	f, err := dir.OpenFile(want.Name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("opening a file of release %s: %w", rel.Digest, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s of release %s is no file", want.Name, rel.Digest)
	case info.Size() != want.Bytes:
		err = fmt.Errorf("%s of release %s has %d bytes, and the manifest says %d", want.Name, rel.Digest, info.Size(), want.Bytes)
	default:
		return f, want.Bytes, nil
	}
	f.Close() //nolint:errcheck // nothing was written to it
	return nil, 0, err
}
