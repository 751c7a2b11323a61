package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// exitNotFound is shed's exit code for what is not there.
const exitNotFound = 3

// lockVariable names the lock that shed image build takes by default.
const lockVariable = "SHED_IMAGE_LOCK"

// buildLocked builds an image by the lock that stands in the source. Debian drops
// what is superseded, and a local run is not to stop working on that day: then
// it goes on with what Debian has, in this process and its children, and says so.
func (p place) buildLocked(ctx context.Context, build []string) error {
	err := p.build(ctx, build)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitNotFound || os.Getenv(lockVariable) != "" {
		return err
	}
	file := filepath.Join(p.cache, "superseded.lock")
	if failed := p.shed(ctx, nil, "image", "lock", "--cache", p.cache, file); failed != nil {
		return errors.Join(err, failed)
	}
	fmt.Fprintf(os.Stderr, "Debian no longer has all that imagebuild/image.lock names: going on with what it has, %s\n"+
		"hint: shed image lock imagebuild/image.lock takes that from now on\n", file)
	if err := os.Setenv(lockVariable, file); err != nil {
		return fmt.Errorf("naming the lock: %w", err)
	}
	return p.build(ctx, build)
}

func (p place) build(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, p.program("shed"), args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if interactive() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, complaint(said.Bytes()))
	}
	return nil
}
