package imagebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// keep puts an input into the archive, where there is one, under its SHA-256:
// an archive of many releases has each of their inputs once.
func (b *builder) keep(digest attest.Digest, data []byte) error {
	if b.Archive == "" {
		return nil
	}
	name := filepath.Join(b.Archive, digest.String())
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := os.MkdirAll(b.Archive, 0o755); err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	return statefile.Write(name, 0o644, data)
}

// keepFile is keep for a file that is as it was when its digest was taken.
func (b *builder) keepFile(digest attest.Digest, file string) error {
	if b.Archive == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("archiving an input: %w", err)
	}
	if attest.Sum(data) != digest {
		return fmt.Errorf("archiving an input: %s has changed meanwhile", file)
	}
	return b.keep(digest, data)
}

// InputsError says which inputs of a manifest an archive does not have, and
// which it has with other bytes than their digest.
type InputsError struct{ Missing, Changed []string }

func (e *InputsError) Error() string {
	switch {
	case len(e.Changed) == 0:
		return fmt.Sprintf("the archive lacks the inputs %q", e.Missing)
	case len(e.Missing) == 0:
		return fmt.Sprintf("the archive has the inputs %q with other bytes", e.Changed)
	}
	return fmt.Sprintf("the archive lacks the inputs %q, and has %q with other bytes", e.Missing, e.Changed)
}

// archived finds the inputs of a manifest, by name. Signatures are taken from beside
// the manifest where the archive does not have them; empty is nowhere. The error is
// *InputsError or the files'.
func archived(dir string, inputs []release.Input, beside string) (map[string]string, error) {
	found, wrong := map[string]string{}, new(InputsError)
	for _, in := range inputs {
		if slices.Contains(qemuPrograms, in.Name) {
			// It is the host's, and only measures.
			continue
		}
		file := filepath.Join(dir, in.SHA256.String())
		digest, bytes, err := files.Digest(file)
		if (in.Name == SignatureName || in.Name == WriteName) && beside != "" && errors.Is(err, fs.ErrNotExist) {
			file = filepath.Join(beside, in.Name)
			digest, bytes, err = files.Digest(file)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong.Missing = append(wrong.Missing, in.Name)
		case err != nil:
			return nil, fmt.Errorf("reading the archived %s: %w", in.Name, err)
		case digest != in.SHA256 || bytes != in.Bytes:
			wrong.Changed = append(wrong.Changed, in.Name)
		}
		found[in.Name] = file
	}
	if len(wrong.Missing)+len(wrong.Changed) > 0 {
		return nil, wrong
	}
	return found, nil
}
