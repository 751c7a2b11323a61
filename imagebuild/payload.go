package imagebuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/payloadtree"
)

// PayloadName is the root of a payload that is too large for the image.
const PayloadName = "payload.img"

// inputPayloadTar has the files of a payload that is not the toolshed.
const inputPayloadTar = "payload.tar"

// MostInImage is how large a payload in the image may be. All of it stays in memory,
// and is there in four copies while the machine starts: as the firmware reads it, as
// it unpacks it, as the kernel is given it and as it lies in the root.
const MostInImage = 8 << 20

// payloadDir is the payload's root in the image, or what that is mounted on.
const payloadDir = "payload"

// The payload's own files of a machine, where it does not bring other ones.
const (
	// nameServers is the machine's name service; what a payload brings of this
	// is replaced.
	nameServers = "nameserver 127.0.0.1\noptions edns0\n"
	hosts       = "127.0.0.1 localhost\n::1 localhost\n"
)

// PayloadMissingError says what a file of the payload needs and the payload has not.
type PayloadMissingError = payloadtree.MissingError

// packed is a payload as it goes into an image.
type packed struct {
	spec payload.Spec
	tree *payloadtree.Tree
	// root is nil where the tree goes into the image; otherwise file is the one on
	// the boot disk.
	root *verity.Root
	file []byte
}

// readPayload takes the payload's files, and refuses one that would not start.
func (b *builder) readPayload(context.Context) error {
	switch {
	case b.Payload == nil:
		return b.takeToolshed()
	case b.packedPayload != "":
		return b.takePacked()
	}
	b.payload.spec = *b.Payload
	tree, err := payloadtree.Read(b.PayloadDir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	command := append([]string(nil), b.Payload.Command...)
	if command[0], err = tree.Program(command[0]); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	b.payload.spec.Command = command
	if err := b.payload.spec.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if err := tree.Check(command, b.payload.spec.Environment, b.Architecture); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if err := furnish(tree, b.payload.spec.User); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	files, err := tree.Tar()
	if err != nil {
		return err
	}
	return b.pack(tree, files)
}

func (b *builder) takeToolshed() error {
	data, err := b.input(inputToolshed, b.Toolshed, "")
	if err != nil {
		return err
	}
	b.payload.spec = payload.Toolshed()
	tree := payloadtree.New()
	if err := tree.Executable(inputToolshed, data); err != nil {
		return err
	}
	if err := furnish(tree, b.payload.spec.User); err != nil {
		return err
	}
	return b.place(tree)
}

// furnish adds what a payload's root has of the machine.
func furnish(t *payloadtree.Tree, user int) error {
	for name, mode := range map[string]fs.FileMode{
		"proc": 0o555, "dev": 0o755, "tmp": 0o777 | fs.ModeSticky, strings.TrimPrefix(payload.DataPath, "/"): 0o755,
		strings.TrimPrefix(payload.SocketDir, "/"): 0o755,
	} {
		if err := t.Ensure(name, mode); err != nil {
			return err
		}
	}
	if err := t.Put("etc/resolv.conf", []byte(nameServers)); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/hosts":  hosts,
		"etc/passwd": fmt.Sprintf("root:x:0:0:root:/:/nologin\npayload:x:%d:%d:payload:/data:/nologin\n", user, user),
		"etc/group":  fmt.Sprintf("root:x:0:\npayload:x:%d:\n", user),
	} {
		if err := t.Default(name, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// pack records the files of a payload that is not the toolshed, and places them.
func (b *builder) pack(tree *payloadtree.Tree, files []byte) error {
	digest := attest.Sum(files)
	b.record(inputPayloadTar, digest, int64(len(files)))
	if err := b.keep(digest, files); err != nil {
		return err
	}
	b.manifest.Payload = &release.Payload{Spec: b.payload.spec}
	return b.place(tree)
}

// place has the files in the image or, where they are large, on the boot disk.
func (b *builder) place(tree *payloadtree.Tree) error {
	b.payload.tree = tree
	if tree.Bytes <= MostInImage {
		return nil
	}
	b.manifest.Payload = &release.Payload{Spec: b.payload.spec}
	return b.packOntoDisk(tree)
}

func (b *builder) packOntoDisk(tree *payloadtree.Tree) error {
	data, err := tree.Erofs()
	if err != nil {
		return err
	}
	root, hashes, err := verity.Tree(bytes.NewReader(data))
	if err != nil {
		return err
	}
	b.payload.root, b.payload.file = &root, append(data, hashes...)
	return nil
}

// takePacked takes a payload's files as an earlier build recorded them.
func (b *builder) takePacked() error {
	b.payload.spec = *b.Payload
	files, err := os.ReadFile(b.packedPayload)
	if err != nil {
		return fmt.Errorf("reading the archived payload: %w", err)
	}
	tree, err := payloadtree.Untar(files)
	if err != nil {
		return err
	}
	return b.pack(tree, files)
}

// addPayload adds the declaration, and the payload's files where they are in the
// image.
func (b *builder) addPayload(root *initrd.Archive) error {
	declared, err := b.payload.spec.Encode()
	if err != nil {
		return err
	}
	if err := root.File("etc/shed/payload.json", 0o644, declared); err != nil {
		return err
	}
	if err := root.Directory(payloadDir, 0o755); err != nil {
		return err
	}
	if b.payload.root != nil {
		return nil
	}
	for _, name := range b.payload.tree.Names() {
		e, _ := b.payload.tree.Entry(name)
		to := path.Join(payloadDir, name)
		switch {
		case e.Mode.IsDir():
			err = root.Directory(to, uint64(unixMode(e.Mode)))
		case e.Mode&fs.ModeSymlink != 0:
			err = root.Symlink(to, e.Link)
		default:
			var data []byte
			if data, err = b.payload.tree.Data(name); err == nil {
				err = root.File(to, uint64(e.Mode.Perm()), data)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		m |= 0o1000
	}
	return m
}

// commandLine is the platform's, with the payload's root where it is on the disk.
func (b *builder) commandLine() string {
	line := b.platform().commandLine()
	if b.payload.root != nil {
		line += " " + b.payload.root.Parameter()
	}
	return line
}

// diskFiles are those that the boot disk has.
func diskFiles(architecture string, image []byte, root *verity.Root, payload []byte) []disk.File {
	files := []disk.File{{Path: platforms[architecture].bootFile, Data: image}}
	if root != nil {
		files = append(files, disk.File{Path: root.FileName(), Data: payload})
	}
	return files
}

// storedPayload reads back what the release in dir has of its payload on the disk.
func storedPayload(dir string, m *release.Manifest) (*verity.Root, []byte, error) {
	if m.Payload == nil || m.Payload.Root == nil {
		return nil, nil, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, PayloadName))
	if errors.Is(err, fs.ErrNotExist) || err == nil && attest.Sum(data) != m.Payload.Root.File.SHA256 {
		return nil, nil, fmt.Errorf("%w: %s is not the one whose digest the manifest states", ErrSigning, PayloadName)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the payload: %w", err)
	}
	return &verity.Root{Hash: m.Payload.Root.RootHash, DataBytes: m.Payload.Root.DataBytes}, data, nil
}
