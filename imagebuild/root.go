package imagebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/sbom"
)

// An image has lists of modules, of which platforms has the names. Those of every
// machine are loaded by the agent in their order, each after what it needs. Each
// costs every boot 15 to 75 ms under software emulation, so those of clouds that
// no provider serves yet stay out (docs/decisions/0011).
//
// That of virtio's network card it loads at the same time, from a list of its own: the
// driver of a disk mostly waits for the disk. Those of the data disk it loads while it
// goes on: btrfs brings one that measures the processor for a second
// (docs/decisions/0068). Those of confidential VMs, and of cards that one cloud's
// machines alone have (ena is EC2's; NVMe is built into the kernel), are each a list of
// its own, which it loads where the hardware is, so that no other boot pays for them.

// mountPoints are the directories that the agent mounts on or writes to.
var mountPoints = map[string]uint64{
	"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "data": 0o755, "tmp": 0o1777,
}

func (b *builder) makeInitrd(context.Context) error {
	root := initrd.New()
	if err := b.addSkeleton(root); err != nil {
		return err
	}
	if err := b.addPayload(root); err != nil {
		return err
	}
	if err := b.addModules(root); err != nil {
		return err
	}
	if err := b.addMkfs(root); err != nil {
		return err
	}
	var err error
	b.initrd, err = root.Bytes()
	return err
}

func (b *builder) addSkeleton(root *initrd.Archive) error {
	for name, permissions := range mountPoints {
		if err := root.Directory(name, permissions); err != nil {
			return err
		}
	}
	// The kernel opens the console before anything is mounted.
	if err := root.CharDevice("dev/console", 0o600, 5, 1); err != nil {
		return err
	}
	if err := root.CharDevice("dev/null", 0o666, 1, 3); err != nil {
		return err
	}
	identity, err := json.Marshal(struct {
		Version string `json:"version"`
		Epoch   uint64 `json:"epoch"`
		// OwnFirmware tells the agent that the manifest fixes registers 0 and 1.
		OwnFirmware bool `json:"own_firmware,omitempty"`
	}{b.Version, b.Epoch, len(b.Shapes) > 0})
	if err != nil {
		return fmt.Errorf("encoding release.json: %w", err)
	}
	for _, f := range []struct {
		name        string
		permissions uint64
		data        []byte
	}{
		{inputInit, 0o755, b.agent},
		{"etc/shed/release.json", 0o644, append(identity, '\n')},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/nologin\n")},
		{"etc/group", 0o644, []byte("root:x:0:\n")},
	} {
		if err := root.File(f.name, f.permissions, f.data); err != nil {
			return err
		}
	}
	return nil
}

// addModules adds the modules and the lists by which the agent loads them.
func (b *builder) addModules(root *initrd.Archive) error {
	added := map[string]bool{}
	if err := b.addModuleList(root, "etc/shed/modules", b.platform().modules, added); err != nil {
		return err
	}
	if err := b.addModuleList(root, "etc/shed/modules.network", b.platform().network, added); err != nil {
		return err
	}
	if err := b.addModuleList(root, "etc/shed/modules.data", b.platform().data, added); err != nil {
		return err
	}
	if b.payload.root != nil {
		if err := b.addModuleList(root, "etc/shed/modules.payload", b.platform().payload, added); err != nil {
			return err
		}
	}
	for _, alone := range b.platform().alone {
		if err := b.addModuleList(root, "etc/shed/modules."+alone, []string{alone}, added); err != nil {
			return err
		}
	}
	return nil
}

// addModuleList adds a list, and what it names and was not added before.
func (b *builder) addModuleList(root *initrd.Archive, file string, names []string, added map[string]bool) error {
	ordered, err := b.kernel.Modules(names)
	if err != nil {
		return fmt.Errorf("choosing modules: %w", err)
	}
	var list bytes.Buffer
	for _, m := range ordered {
		name := "lib/modules/" + m.Name + ".ko"
		fmt.Fprintf(&list, "/%s\n", name)
		if added[name] {
			continue
		}
		added[name] = true
		b.modules = append(b.modules, sbom.File{Path: name, SHA256: attest.Sum(m.Data)})
		if err := root.File(name, 0o644, m.Data); err != nil {
			return err
		}
	}
	return root.File(file, 0o644, list.Bytes())
}

func (b *builder) addMkfs(root *initrd.Archive) error {
	program, err := b.input(inputMkfs, b.Mkfs, "btrfs-progs")
	if err != nil {
		return err
	}
	if err := root.File(inputMkfs, 0o755, program); err != nil {
		return err
	}
	libraries := b.libraries
	if libraries == nil {
		if libraries, err = initrd.Libraries(b.root, b.Mkfs); err != nil {
			return err
		}
	}
	for _, lib := range libraries {
		name := strings.TrimPrefix(lib.Path, "/")
		b.record(name, attest.Sum(lib.Data), int64(len(lib.Data)))
		if err := b.keep(attest.Sum(lib.Data), lib.Data); err != nil {
			return err
		}
		if err := root.File(name, 0o755, lib.Data); err != nil {
			return err
		}
	}
	return nil
}
