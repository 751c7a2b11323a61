package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// fetchFrom reads a log over HTTP, or from a directory with a copy of it. A
// resource that is not there is fs.ErrNotExist.
func fetchFrom(base string, timeout time.Duration) logtiles.Fetch {
	if !strings.Contains(base, "://") {
		return fetchCopy(base)
	}
	client := &http.Client{Timeout: timeout}
	return func(ctx context.Context, path string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/"+path, nil)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("log %q: %w", base, err))
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("fetching the log: %w", err)
		}
		defer resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusNotFound:
			return nil, cli.NotFound(fmt.Errorf("fetching the log's %s: %w", path, fs.ErrNotExist))
		case resp.StatusCode != http.StatusOK:
			return nil, cli.Unreachable(fmt.Errorf("fetching the log's %s: it answers %s", path, resp.Status))
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, logtiles.MaxBundleBytes+1))
		if err != nil {
			return nil, fmt.Errorf("fetching the log's %s: %w", path, err)
		}
		return b, nil
	}
}

// fetchCopy reads a log's files. Its checkpoint has to be the one with the
// witnesses' cosignatures, as it is served.
func fetchCopy(dir string) logtiles.Fetch {
	return func(_ context.Context, path string) ([]byte, error) {
		if !logtiles.IsPath(path) {
			return nil, cli.NotFound(fmt.Errorf("reading the log's %s: %w", path, fs.ErrNotExist))
		}
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(path)))
		if errors.Is(err, fs.ErrNotExist) {
			err = cli.NotFound(err)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the log: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, logtiles.MaxBundleBytes+1))
		if err != nil {
			return nil, fmt.Errorf("reading the log's %s: %w", path, err)
		}
		return b, nil
	}
}

// seenFile remembers a log's head from one audit to the next.
type seenFile struct{ path string }

func auditMemory(cmd *cobra.Command, log checkpoint.Key) seenFile {
	name := attest.Sum([]byte(log.Name())).String() + ".json"
	return seenFile{filepath.Join(cli.StateDir(cmd), "audit", name)}
}

// open adds what was seen to the policy and keeps other audits out meanwhile.
func (s seenFile) open(p *logaudit.Policy) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, fmt.Errorf("remembering the log: %w", err)
	}
	if unlock, err = statefile.Lock(s.path + ".lock"); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return unlock, nil
	}
	var seen logaudit.Head
	if err == nil {
		err = strictjson.Unmarshal(b, &seen)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading what was seen of the log, %s: %w", s.path, err), unlock())
	}
	p.Seen = append(p.Seen, seen)
	return unlock, nil
}

func (s seenFile) keep(h logaudit.Head) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("remembering the log: %w", err)
	}
	return statefile.Write(s.path, 0o600, append(b, '\n'))
}
