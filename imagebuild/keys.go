package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// writeKeys puts Secure Boot's variables beside the disk, for a cloud whose own
// firmware they are enrolled in. A release with a firmware of its own has them
// there. Those that an earlier build left are removed.
func (b *builder) writeKeys(context.Context) error {
	for _, name := range keyFiles {
		to := filepath.Join(b.Output, name)
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an earlier release: %w", err)
		}
		if b.SecureBootKeys == "" || len(b.Shapes) > 0 {
			continue
		}
		content, err := os.ReadFile(filepath.Join(b.SecureBootKeys, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dbx may be absent; the others were read before
		}
		if err != nil {
			return fmt.Errorf("reading Secure Boot's keys: %w", err)
		}
		if !b.recorded(name, attest.Sum(content)) {
			return fmt.Errorf("%w: %s has changed meanwhile", ErrOptions, name)
		}
		if err := statefile.Write(to, 0o644, content); err != nil {
			return err
		}
	}
	return nil
}

// recorded reports whether an input is the one in the manifest.
func (b *builder) recorded(name string, sum attest.Digest) bool {
	for _, in := range b.manifest.Inputs {
		if in.Name == name {
			return in.SHA256 == sum
		}
	}
	return false
}
