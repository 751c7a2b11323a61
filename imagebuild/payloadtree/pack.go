package payloadtree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Tar packs the tree, the same for the same files. Errors are Data's.
func (t *Tree) Tar() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range t.Names() {
		e := t.entries[name]
		h := &tar.Header{Name: name, Mode: int64(e.Mode.Perm()), Linkname: e.Link, Format: tar.FormatPAX, Typeflag: tar.TypeReg, Size: e.Bytes}
		switch {
		case e.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
			if e.Mode&fs.ModeSticky != 0 {
				h.Mode |= 0o1000
			}
		case e.Mode&fs.ModeSymlink != 0:
			h.Typeflag = tar.TypeSymlink
		}
		data, err := t.Data(name)
		if err == nil {
			err = w.WriteHeader(h)
		}
		if err == nil && e.Mode.IsRegular() {
			_, err = w.Write(data)
		}
		if err != nil {
			return nil, fmt.Errorf("packing the payload: %s: %w", name, err)
		}
	}
	return out.Bytes(), w.Close()
}

// Untar reads what Tar packed. Errors match ErrTree.
func Untar(b []byte) (*Tree, error) {
	t := New()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTree, err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if name == "" || path.IsAbs(name) || path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../") {
			return nil, fmt.Errorf("%w: path %q", ErrTree, h.Name)
		}
		e := Entry{}
		switch h.Typeflag {
		case tar.TypeDir:
			e.Mode = fs.ModeDir | fs.FileMode(h.Mode)&0o777
			if h.Mode&0o1000 != 0 {
				e.Mode |= fs.ModeSticky
			}
		case tar.TypeSymlink:
			e.Mode, e.Link = fs.ModeSymlink|0o777, h.Linkname
		case tar.TypeReg:
			e.Mode, e.Bytes = permissions(fs.FileMode(h.Mode)), h.Size
			if h.Size > maxBytes {
				return nil, fmt.Errorf("%w: %s has %d bytes", ErrTree, name, h.Size)
			}
			if e.data, err = io.ReadAll(io.LimitReader(r, h.Size)); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrTree, name, err)
			}
		default:
			return nil, fmt.Errorf("%w: %s is no file, link or directory", ErrTree, name)
		}
		if err := t.put(name, e); err != nil {
			return nil, err
		}
	}
}

// The file system's identifier is fixed: what it is known by is its hash.
const erofsUUID = "53686564-7061-796c-6f61-640000000001"

// Erofs makes a file system of the tree with the program mkfs, of Debian's
// erofs-utils, into file. Errors are the program's, with what it said, the file
// system's and Data's.
func (t *Tree) Erofs(ctx context.Context, mkfs, file string) error {
	stage, err := os.MkdirTemp(filepath.Dir(file), "payload-")
	if err != nil {
		return fmt.Errorf("packing the payload: %w", err)
	}
	defer os.RemoveAll(stage) //nolint:errcheck // it is the system's to clean up then
	if err := t.stage(stage); err != nil {
		return fmt.Errorf("packing the payload: %w", err)
	}
	cmd := exec.CommandContext(ctx, mkfs, "-zlz4hc,12", "-T0", "-U"+erofsUUID, "-x-1", "--all-root", "--quiet", file, stage)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.erofs: %w: %s", err, out)
	}
	return nil
}

// stage lays the tree out, with its own permissions whatever those of the source.
func (t *Tree) stage(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, name := range t.Names() {
		e, to := t.entries[name], filepath.Join(dir, filepath.FromSlash(name))
		if e.Mode&fs.ModeSymlink != 0 {
			if err := os.Symlink(e.Link, to); err != nil {
				return err
			}
			continue
		}
		if e.Mode.IsDir() {
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
		} else {
			data, err := t.Data(name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(to, data, 0o600); err != nil {
				return err
			}
		}
		if err := os.Chmod(to, e.Mode&(fs.ModePerm|fs.ModeSticky)); err != nil {
			return err
		}
	}
	return nil
}
