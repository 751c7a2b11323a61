package imagebuild

import (
	"context"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// writeKeys puts Secure Boot's variables beside the disk, for a cloud whose own
// firmware they are enrolled in. A release with a firmware of its own has them
// there.
func (b *builder) writeKeys(context.Context) error {
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
