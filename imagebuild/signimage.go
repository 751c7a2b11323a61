package imagebuild

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// ErrSigning says that an image cannot be signed for Secure Boot, or a release
// without such a signature not be given out.
var ErrSigning = errors.New("image not signed for Secure Boot")

// SignImage signs the image of a release that Build wrote for Secure Boot: it
// attaches the signature to the image, on the disk too, and writes it beside
// them, with a manifest that has it as an input. A release that changes a variable
// gets that change too, signed by exchange, which is needed for no other. The same
// release and keys give the same bytes, also where it was signed before. archive,
// where not empty, gets the signatures as Build's gets the other inputs. Whoever
// signs the manifest does so after this: a signature of another one goes. A signing
// that fails or is killed leaves the release as it was, or for the next one to go on
// with. Errors match ErrSigning or uki.ErrFormat, are ParseManifest's or the files'.
func SignImage(dir, archive string, signer *secureboot.Signer, exchange *secureboot.Exchange) error {
	if err := goOn(dir); err != nil {
		return err
	}
	original, _, err := readRelease(dir)
	if err != nil {
		return err
	}
	m, err := release.ParseManifest(original)
	if err != nil {
		return err
	}
	if err := acceptedBy(m, signer); err != nil {
		return err
	}
	signed, err := os.ReadFile(filepath.Join(dir, UKIName))
	if err != nil {
		return fmt.Errorf("reading the image: %w", err)
	}
	if attest.Sum(signed) != m.UKI.SHA256 {
		return fmt.Errorf("%w: %s is not the one whose digest the manifest states", ErrSigning, UKIName)
	}
	bare, err := uki.Detach(signed)
	if err != nil {
		return err
	}
	signature, err := signer.Sign(bare)
	if err != nil {
		return err
	}
	if signed, err = uki.Attach(bare, signature); err != nil {
		return err
	}
	write, err := signChange(m, exchange)
	if err != nil {
		return err
	}
	made := map[string][]byte{SignatureName: signature}
	if write != nil {
		made[WriteName] = write
	}
	for _, data := range made {
		if err := (&builder{Options: Options{Archive: archive}}).keep(attest.Sum(data), data); err != nil {
			return err
		}
	}
	return rewrite(dir, m, signed, made)
}

// acceptedBy refuses a release that is not for the key: register 7 in its
// manifest is that of other ones.
func acceptedBy(m *release.Manifest, signer *secureboot.Signer) error {
	n := slices.IndexFunc(m.Inputs, func(in release.Input) bool { return in.Name == "db.esl" })
	if n < 0 {
		return fmt.Errorf("%w: the release was built without keys", ErrSigning)
	}
	if db := signer.DB(); m.Inputs[n].SHA256 != attest.Sum(db) {
		return fmt.Errorf("%w: the release was built with another db.esl than this key's", ErrSigning)
	}
	return nil
}

// stagedName is the directory of what a signing has made so far.
const stagedName = ".sign"

// rewrite makes all that changes before it touches the release, which is as it was
// where that fails, for want of room for example. made are the signatures, by their
// names.
func rewrite(dir string, m *release.Manifest, image []byte, made map[string][]byte) error {
	staged := filepath.Join(dir, stagedName)
	// What a signing left that was killed before it had made all is worth nothing.
	if err := os.RemoveAll(staged); err != nil {
		return fmt.Errorf("clearing an earlier signing: %w", err)
	}
	if err := os.Mkdir(staged, 0o755); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := stage(dir, staged, m, image, made); err != nil {
		return errors.Join(err, os.RemoveAll(staged))
	}
	return takePlace(dir, staged)
}

// goOn ends what a signing began that was cut off while it took the release's place.
// Until then the one manifest is what was staged, as the last file of all.
func goOn(dir string) error {
	staged := filepath.Join(dir, stagedName)
	_, there := os.Stat(filepath.Join(dir, ManifestName))
	_, made := os.Stat(filepath.Join(staged, ManifestName))
	if errors.Is(there, fs.ErrNotExist) && made == nil {
		return takePlace(dir, staged)
	}
	return nil
}

// stage writes into staged what changes of the release in dir.
func stage(dir, staged string, m *release.Manifest, image []byte, made map[string][]byte) error {
	root, stored, err := storedPayload(dir, m)
	if err != nil {
		return err
	}
	how, err := storedProvenance(dir, m)
	if err != nil {
		return err
	}
	m.Inputs = slices.DeleteFunc(m.Inputs, func(in release.Input) bool { return made[in.Name] != nil })
	for name, data := range made {
		if err := statefile.Write(filepath.Join(staged, name), 0o644, data); err != nil {
			return err
		}
		m.Inputs = append(m.Inputs, release.Input{Name: name, SHA256: attest.Sum(data), Bytes: int64(len(data))})
	}
	if err := statefile.Write(filepath.Join(staged, UKIName), 0o644, image); err != nil {
		return err
	}
	if m.Disk, err = writeDisk(filepath.Join(staged, DiskName), diskFiles(m.Architecture, image, root, stored)); err != nil {
		return err
	}
	m.UKI = fileOf(UKIName, image)
	sortInputs(m)
	if err := provenanceAgain(staged, m, how); err != nil {
		return err
	}
	encoded, err := m.Encode()
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(staged, ManifestName), 0o644, encoded)
}

// takePlace puts what was staged in place of what is in dir. The manifest goes first
// and comes last, so that none ever stands beside files that it does not describe.
func takePlace(dir, staged string) error {
	entries, err := os.ReadDir(staged)
	if err == nil {
		err = removeManifest(dir, staged)
	}
	if err != nil {
		return fmt.Errorf("replacing the release: %w", err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != ManifestName {
			names = append(names, e.Name())
		}
	}
	for _, name := range append(names, ManifestName) {
		if err := os.Rename(filepath.Join(staged, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("replacing the release: %w", err)
		}
	}
	return errors.Join(statefile.SyncDir(dir), os.RemoveAll(staged))
}

// removeManifest removes the manifest in dir, and its signature where the one that was
// staged is another.
func removeManifest(dir, staged string) error {
	earlier, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	next, err := os.ReadFile(filepath.Join(staged, ManifestName))
	if err != nil {
		return err
	}
	names := []string{ManifestName}
	if !bytes.Equal(earlier, next) {
		names = append(names, signed...)
	}
	return remove(dir, names)
}

// CheckSigned refuses a release whose machines would not start its image: those
// with Secure Boot on, where the image has no signature; and one whose change of a
// variable has none. The error matches ErrSigning.
func CheckSigned(m *release.Manifest) error {
	signed := slices.ContainsFunc(m.Inputs, func(in release.Input) bool { return in.Name == SignatureName })
	if m.SecureBootOnly() && !signed {
		return fmt.Errorf("%w: its machines start with Secure Boot on and would refuse it", ErrSigning)
	}
	if c := m.SecureBootChange; c != nil && c.Write == nil {
		return fmt.Errorf("%w: its change of Secure Boot's %s is not signed", ErrSigning, c.Variable)
	}
	return nil
}
