package payloadtree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/toolshed-cloud/shed/imagebuild/erofs"
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
			// One with a hole has more than it takes in the archive.
			if h.Size > int64(len(b)) {
				return nil, fmt.Errorf("%w: %s has %d bytes in an archive of %d", ErrTree, name, h.Size, len(b))
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

// Erofs packs the tree as a file system, the same for the same files. Errors match
// ErrTree where a file cannot be in one or changed meanwhile, or are the file
// system's.
func (t *Tree) Erofs() ([]byte, error) {
	entries := make([]erofs.Entry, 0, len(t.entries))
	for name, e := range t.entries {
		entry := erofs.Entry{Name: name, Mode: e.Mode, Link: e.Link, Bytes: e.Bytes}
		if e.Mode.IsRegular() {
			entry.Open = e.open
		}
		entries = append(entries, entry)
	}
	image, err := erofs.Plan(entries)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	}
	out := bytes.NewBuffer(make([]byte, 0, image.Bytes()))
	switch _, err := image.WriteTo(out); {
	case errors.Is(err, erofs.ErrEntry):
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	case err != nil:
		return nil, fmt.Errorf("packing the payload: %w", err)
	}
	return out.Bytes(), nil
}

// open opens a file where its bytes are.
func (e Entry) open() (io.ReadCloser, error) {
	if e.source == "" {
		return io.NopCloser(bytes.NewReader(e.data)), nil
	}
	return os.Open(e.source)
}
