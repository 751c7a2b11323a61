package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

const imageLockLong = `lock asks Debian which packages it has now and writes FILE: each package that an
image is made of, for amd64 and arm64, with its version and SHA-256, and with the
SHA-256 of each file that an image takes from it; and the version of Go that
builds the image's programs, which stays what it was unless --go names another.

  shed image lock imagebuild/image.lock

An image is made of what the lock names and nothing else, whatever the host has
installed. Packages that Debian no longer has come from the archive of a release
(shed image build --archive DIR). The lock in the source is built into this
program: build it again to have it by default.

--check asks nobody: it reads FILE and says what is in it.`

// lockOptions are the flags of image lock.
type lockOptions struct {
	goVersion, cache string
	check            bool
}

func newImageLockCommand() *cobra.Command {
	var o lockOptions
	cmd := &cobra.Command{
		Use:   "lock FILE",
		Short: "write which packages of Debian's images are made of from now on",
		Long:  imageLockLong,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.goVersion, "go", "", "version of Go, such as go1.26.8 (default the one in FILE, or in this program's lock)")
	flags.StringVar(&o.cache, "cache", ".cache/image", "directory that keeps the packages")
	flags.BoolVar(&o.check, "check", false, "only say whether FILE is a lock and what is in it")
	return cmd
}

func (o *lockOptions) run(cmd *cobra.Command, file string) error {
	if o.check {
		l, err := readLock(file)
		if err != nil {
			return explainLock(err)
		}
		return printLock(cmd, file, l)
	}
	if o.goVersion == "" {
		before, err := readLock(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, lock.ErrLock) {
			before, err = imagebuild.BuiltInLock()
		}
		if err != nil {
			return explainLock(err)
		}
		o.goVersion = before.Go
	}
	steps := newStepBar(cmd, time.Now)
	l, err := imagebuild.NewLock(cmd.Context(), o.goVersion, o.cache, steps.begin)
	steps.end()
	if err != nil {
		return explainLock(err)
	}
	b, err := l.Encode()
	if err != nil {
		return err
	}
	if err := statefile.Write(file, 0o644, b); err != nil {
		return err
	}
	return printLock(cmd, file, l)
}

func printLock(cmd *cobra.Command, file string, l *lock.Lock) error {
	packages := 0
	for _, a := range l.Architectures {
		packages += len(a.Packages)
	}
	return cli.PrintResult(cmd, struct {
		Lock          string `json:"lock"`
		Go            string `json:"go"`
		Architectures int    `json:"architectures"`
		Packages      int    `json:"packages"`
	}{file, l.Go, len(l.Architectures), packages}, "%s: %d packages for %d architectures, programs by %s\n", file, packages, len(l.Architectures), l.Go)
}

// builtInLock is what --lock names by default.
const builtInLock = "built-in"

// readLock reads the lock that a flag names; nil is none.
func readLock(name string) (*lock.Lock, error) {
	switch name {
	case "":
		return nil, nil //nolint:nilnil // no lock is an answer
	case builtInLock:
		return imagebuild.BuiltInLock()
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Hinted(cli.NotFound(fmt.Errorf("reading the lock: %w", err)), "shed image lock %s writes one", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the lock: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, lock.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the lock: %w", err)
	}
	return lock.Parse(b)
}

// sourceOf is the directory that a flag names, the working directory where that
// is the source.
func sourceOf(flag string) string {
	if flag == "" && source.Is(".") {
		return "."
	}
	return flag
}

// explainLock adds what a person can do about a lock that does not match.
func explainLock(err error) error {
	const refresh = "shed image lock FILE takes what Debian has now, and shed image build --lock FILE builds by it"
	var other *lock.MismatchError
	switch {
	case errors.As(err, &other):
		return cli.Hinted(cli.Refused(err), refresh)
	case errors.Is(err, lock.ErrLock):
		return cli.Hinted(cli.Usage(err), "shed image lock FILE writes one")
	}
	return explainBuild(err)
}
