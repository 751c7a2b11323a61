package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// writeKeys puts Secure Boot's variables beside the disk, for a cloud whose own
// firmware they are enrolled in. A release with a firmware of its own has them
// there. Those that an earlier build left are removed.
func (b *builder) writeKeys(context.Context) error {
	for _, name := range secureboot.FileNames() {
		if err := os.Remove(filepath.Join(b.Output, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an earlier release: %w", err)
		}
	}
	if b.keys == nil || len(b.Shapes) > 0 {
		return nil
	}
	for _, f := range b.keys.Files() {
		if err := statefile.Write(filepath.Join(b.Output, f.Name), 0o644, f.Data); err != nil {
			return err
		}
	}
	return nil
}
