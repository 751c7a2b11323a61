package imagebuild

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/registers"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// inputBefore is the list that a release changes, as it was; there is none where it
// was empty. It is no .esl: those are what new machines are made with.
const inputBefore = "secure-boot.before"

// readKeysBefore reads the variables of machines that run, and how they become
// the release's. The image is signed by one key for both.
func (b *builder) readKeysBefore() error {
	if b.SecureBootKeysBefore == "" {
		return nil
	}
	if b.keys == nil {
		return fmt.Errorf("%w: Secure Boot's keys before a change, and none after it", ErrOptions)
	}
	before, err := secureboot.Read(b.SecureBootKeysBefore)
	if err != nil {
		return fmt.Errorf("%w: before the change: %w", ErrOptions, err)
	}
	vouches, err := b.keys.Certificate()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	before.Vouching = vouches.Raw
	if _, err := before.Authority(); err != nil {
		return fmt.Errorf("%w: before the change, which the image is started under too: %w", ErrOptions, err)
	}
	change, err := before.ChangeOf(b.keys)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	b.before = before
	b.manifest.SecureBootChange = &release.SecureBootChange{Variable: change.Variable, Adds: change.Adds, Removes: change.Removes}
	was := before.DB
	if change.Variable == release.VariableDBX {
		was = before.DBX
	}
	if len(was) == 0 {
		return nil
	}
	b.record(inputBefore, attest.Sum(was), int64(len(was)))
	return b.keep(attest.Sum(was), was)
}

// computeBefore adds what a machine shows that has not made the change.
func (b *builder) computeBefore() error {
	if b.before == nil {
		return nil
	}
	if err := b.checkRevoked(); err != nil {
		return err
	}
	boot, err := registers.Expect(registers.Boot{UKI: b.image, StubVersion: b.manifest.StubVersion, SecureBoot: true, Keys: b.before})
	if err != nil {
		return fmt.Errorf("computing registers before the change: %w", err)
	}
	b.manifest.Boots = append(b.manifest.Boots, boot)
	return nil
}

// checkRevoked refuses an image that firmware would not start before the change, or
// after it.
func (b *builder) checkRevoked() error {
	h := sha256.New()
	if err := uki.Authenticode(b.image, h); err != nil {
		return fmt.Errorf("hashing the image: %w", err)
	}
	for _, k := range []*secureboot.Keys{b.keys, b.before} {
		revoked, err := k.Revokes(attest.Digest(h.Sum(nil)))
		if err != nil {
			return err
		}
		if revoked {
			return fmt.Errorf("%w: dbx has the hash of this very image", ErrOptions)
		}
	}
	return nil
}

// writeChange puts a rebuilt release's signed change beside it.
func (b *builder) writeChange(context.Context) error {
	if b.write == nil {
		return nil
	}
	b.record(WriteName, attest.Sum(b.write), int64(len(b.write)))
	f := fileOf(WriteName, b.write)
	b.manifest.SecureBootChange.Write = &f
	return statefile.Write(filepath.Join(b.Output, WriteName), 0o644, b.write)
}

// takeChange has a rebuild begin with the keys that the release's did, and with what
// it was signed with. The directory of the keys is the caller's to remove.
func (b *builder) takeChange(m *release.Manifest, found map[string]string) (err error) {
	if m.SecureBootChange == nil {
		return nil
	}
	if name := found[WriteName]; name != "" {
		if b.write, err = os.ReadFile(name); err != nil {
			return fmt.Errorf("reading the signed change of Secure Boot's variables: %w", err)
		}
	}
	if b.SecureBootKeys == "" {
		return fmt.Errorf("%w: the release changes Secure Boot's variables and names no input db.esl", ErrOptions)
	}
	keys, err := secureboot.Read(b.SecureBootKeys)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	var was []byte
	if name := found[inputBefore]; name != "" {
		if was, err = os.ReadFile(name); err != nil {
			return fmt.Errorf("reading the archived %s: %w", inputBefore, err)
		}
	}
	b.SecureBootKeysBefore = filepath.Join(b.SecureBootKeys, "before")
	return layOutBefore(b.SecureBootKeysBefore, keys, m.SecureBootChange.Variable, was)
}

// layOutBefore makes a directory of keys like others but for one list.
func layOutBefore(dir string, after *secureboot.Keys, variable string, was []byte) error {
	vouches, err := after.Certificate()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	// Before, db may have had several certificates where it has one after.
	before := *after
	before.Vouching = vouches.Raw
	if variable == release.VariableDB {
		before.DB = was
	} else {
		before.DBX = was
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("laying out Secure Boot's keys: %w", err)
	}
	for _, f := range before.Files() {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			return fmt.Errorf("laying out Secure Boot's keys: %w", err)
		}
	}
	return nil
}

// signChange has KEK's key sign the release's change, where it has one: what a
// machine hands to its firmware, which is written beside the image.
func signChange(m *release.Manifest, x *secureboot.Exchange) ([]byte, error) {
	c := m.SecureBootChange
	if c == nil {
		return nil, nil
	}
	if x == nil {
		return nil, fmt.Errorf("%w: it changes Secure Boot's %s, which KEK.key has to sign", ErrSigning, c.Variable)
	}
	n := slices.IndexFunc(m.Inputs, func(in release.Input) bool { return in.Name == c.Variable+".esl" })
	if n < 0 || m.Inputs[n].SHA256 != attest.Sum(x.Contents(c.Variable)) {
		return nil, fmt.Errorf("%w: the release was built with another %s.esl than these keys'", ErrSigning, c.Variable)
	}
	write, err := x.Write(c.Variable, m.Epoch)
	if err != nil {
		return nil, err
	}
	f := fileOf(WriteName, write)
	c.Write = &f
	return write, nil
}
