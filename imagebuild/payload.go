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

// The names of a payload's inputs: its files, or the file system that they are in.
const (
	inputPayloadTar   = "payload.tar"
	inputPayloadErofs = "payload.erofs"
)

// mostInImage is how large a payload in the image may be: all of it is read at
// each boot and stays in memory. The toolshed is not asked.
const mostInImage = 32 << 20

// payloadDir is the payload's root in the image, or what that is mounted on.
const payloadDir = "payload"

// payloadModules are for a root on the boot disk.
var payloadModules = []string{"dm-mod", "dm-verity", "erofs"}

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
	// tree is its root in the image; otherwise data and hashes are of one on the
	// boot disk.
	tree         *payloadtree.Tree
	root         *verity.Root
	data, hashes []byte
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
	if tree.Bytes <= mostInImage {
		return b.packIntoImage(tree)
	}
	return b.packOntoDisk(tree)
}

func (b *builder) takeToolshed() error {
	data, err := b.input(inputToolshed, b.Toolshed, "")
	if err != nil {
		return err
	}
	b.toolshed = data
	b.payload.spec, b.payload.tree = payload.Toolshed(), payloadtree.New()
	if err := b.payload.tree.Executable(inputToolshed, data); err != nil {
		return err
	}
	return furnish(b.payload.tree, b.payload.spec.User)
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

func (b *builder) packIntoImage(tree *payloadtree.Tree) error {
	data, err := tree.Tar()
	if err != nil {
		return err
	}
	b.payload.tree = tree
	return b.recordPayload(inputPayloadTar, data)
}

func (b *builder) packOntoDisk(tree *payloadtree.Tree) error {
	data, err := tree.Erofs()
	if err != nil {
		return err
	}
	return b.takeErofs(data)
}

func (b *builder) takeErofs(data []byte) error {
	root, hashes, err := verity.Tree(bytes.NewReader(data))
	if err != nil {
		return err
	}
	b.payload.root, b.payload.data, b.payload.hashes = &root, data, hashes
	return b.recordPayload(inputPayloadErofs, data)
}

func (b *builder) recordPayload(name string, data []byte) error {
	digest := attest.Sum(data)
	b.record(name, digest, int64(len(data)))
	b.manifest.Payload = &release.Payload{Spec: b.payload.spec}
	return b.keep(digest, data)
}

// takePacked takes a payload as an earlier build packed it.
func (b *builder) takePacked() error {
	b.payload.spec = *b.Payload
	data, err := os.ReadFile(b.packedPayload)
	if err != nil {
		return fmt.Errorf("reading the archived payload: %w", err)
	}
	if b.packedOnDisk {
		return b.takeErofs(data)
	}
	if b.payload.tree, err = payloadtree.Untar(data); err != nil {
		return err
	}
	return b.recordPayload(inputPayloadTar, data)
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
	if b.payload.tree == nil {
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

// file is the payload's on the boot disk; nil where it is in the image.
func (p *packed) file() []byte {
	if p.root == nil {
		return nil
	}
	return append(p.data[:len(p.data):len(p.data)], p.hashes...)
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
