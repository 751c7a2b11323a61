package erofs

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
)

// bufferBytes are what is read and written at once.
const bufferBytes = 256 << 10

var _ io.WriterTo = (*Image)(nil)

// output is an image in the making.
type output struct {
	w *bufio.Writer
	// at is how much of it is written.
	at     int64
	buffer []byte
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.at += int64(n)
	return n, err
}

// fill writes zeros up to an offset in this block or the next one's beginning.
func (o *output) fill(to int64) error {
	var zeros [blockBytes]byte
	_, err := o.Write(zeros[:to-o.at])
	return err
}

// WriteTo writes the image and opens each file once, in the order of their
// places. What was written before an error is no image. Errors match ErrEntry
// where a file has another length than its entry says, or are the writer's and
// the file's.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	o := &output{w: bufio.NewWriterSize(w, bufferBytes), buffer: make([]byte, bufferBytes)}
	err := i.write(o)
	if err == nil {
		err = o.w.Flush()
	}
	if err != nil {
		return o.at, fmt.Errorf("writing a file system: %w", err)
	}
	return o.at, nil
}

func (i *Image) write(o *output) error {
	if err := o.fill(superOffset); err != nil {
		return err
	}
	if _, err := o.Write(i.superblock()); err != nil {
		return err
	}
	for _, n := range i.nodes {
		if err := o.fill(n.offset); err != nil {
			return err
		}
		if _, err := o.Write(n.inode()); err != nil {
			return err
		}
		if n.inBlocks() {
			continue
		}
		if err := n.data(o); err != nil {
			return err
		}
	}
	for _, n := range i.nodes {
		if !n.inBlocks() {
			continue
		}
		if err := o.fill(n.block * blockBytes); err != nil {
			return err
		}
		if err := n.data(o); err != nil {
			return err
		}
	}
	return o.fill(i.Bytes())
}

// data writes what a node holds.
func (n *node) data(o *output) (err error) {
	switch n.Mode.Type() {
	case fs.ModeDir:
		_, err = o.Write(n.directory())
	case fs.ModeSymlink:
		_, err = io.WriteString(o, n.Link)
	default:
		err = n.file(o)
	}
	return err
}

// file copies a file's bytes, and looks for one more than there are said to be.
func (n *node) file(o *output) error {
	r, err := n.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	defer r.Close()
	copied, err := io.CopyBuffer(o, io.LimitReader(r, n.Bytes+1), o.buffer)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	if copied != n.Bytes {
		return fmt.Errorf("%w: %q has not the %d bytes that it is said to have", ErrEntry, n.Name, n.Bytes)
	}
	return nil
}
