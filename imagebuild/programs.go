package imagebuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

// programFlags are what the Makefile's MEASURED programs are built with: the
// same source gives the same bytes, wherever it lies.
var programFlags = []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="}

// programPackages are where the source has the programs that become inputs.
var programPackages = map[string]string{inputInit: "./cmd/shed-agent", inputToolshed: "./cmd/toolshed"}

// fromSource builds a release's programs from source, with the lock's Go, and
// says where they or the source are other than the release's.
func (o RebuildOptions) fromSource(ctx context.Context, m *release.Manifest, l *lock.Lock) (differences []Difference, err error) {
	if l == nil {
		return nil, fmt.Errorf("%w: the release has no lock, which would say by which Go it was built", ErrOptions)
	}
	digest, err := source.Digest(o.Source)
	if err != nil {
		return nil, err
	}
	if !l.Source.IsZero() && l.Source != digest {
		differences = append(differences, Difference{File: LockName, Where: fmt.Sprintf("the source is %s, and %s has %s", l.Source, o.Source, digest), Offset: -1})
	}
	dir, err := os.MkdirTemp("", "shed-programs-")
	if err != nil {
		return nil, fmt.Errorf("building the programs: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's to clean up then
	for _, in := range m.Inputs {
		from, ours := programPackages[in.Name]
		if !ours {
			continue
		}
		out := filepath.Join(dir, filepath.Base(from))
		if err := o.compile(ctx, l.Go, m.Architecture, from, out); err != nil {
			return nil, err
		}
		made, _, err := files.Digest(out)
		if err != nil {
			return nil, err
		}
		if made != in.SHA256 {
			differences = append(differences, Difference{File: in.Name, Where: fmt.Sprintf("the source makes %s, and the release has %s", made, in.SHA256), Offset: -1, Input: from})
		}
	}
	return differences, nil
}

func (o RebuildOptions) compile(ctx context.Context, goVersion, architecture, from, out string) error {
	cmd := exec.CommandContext(ctx, "go", append(slices.Clone(programFlags), "-o", out, from)...)
	cmd.Dir = o.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOOS=linux", "GOARCH="+architecture, "GOTOOLCHAIN="+goVersion)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s by %s: %w: %.500s", from, goVersion, err, strings.TrimSpace(string(text)))
	}
	return nil
}
