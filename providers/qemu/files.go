package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/providers"
)

// removeFile is fine with a file that is not there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// sparseWriter leaves out the blocks that are zero, so that an image takes on
// disk what it holds and not what it spans.
type sparseWriter struct {
	file *os.File
	size int64
}

var _ io.Writer = (*sparseWriter)(nil)

const sparseBlock = 64 << 10

var zeroBlock [sparseBlock]byte

func (w *sparseWriter) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		n := min(len(b), sparseBlock)
		if string(b[:n]) != string(zeroBlock[:n]) {
			if _, err := w.file.WriteAt(b[:n], w.size); err != nil {
				return written, err
			}
		}
		w.size += int64(n)
		written += n
		b = b[n:]
	}
	return written, nil
}

// finish gives the file its length and puts it on the disk.
func (w *sparseWriter) finish() error {
	if err := w.file.Truncate(w.size); err != nil {
		return err
	}
	return w.file.Sync()
}

// copyBytes is how much is copied before it is asked whether to go on.
const copyBytes = 8 << 20

// copySparse copies a disk onto this one, with its holes.
func copySparse(ctx context.Context, from, to string) (err error) {
	original, err := os.Open(from)
	if err != nil {
		return err
	}
	defer original.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &sparseWriter{file: f}
	for {
		n, err := io.CopyN(w, original, copyBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n < copyBytes {
			return w.finish()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// usedBytes is what a file takes on its disk; 0 where there is none.
func usedBytes(path string) int64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0
	}
	const statBlock = 512
	return st.Blocks * statBlock
}

// failure gives an error of the file system the code it deserves.
func failure(err error, doing string) error {
	var known *providers.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "%s was given up", doing), err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &providers.Error{Code: providers.CodeCapacity,
			Message: fmt.Sprintf("%s: %s", doing, err)}
	case errors.Is(err, fs.ErrPermission):
		return &providers.Error{Code: providers.CodeDenied,
			Message: fmt.Sprintf("%s: %s", doing, err)}
	default:
		return providers.Errorf(providers.CodeInternal, "%s: %s", doing, err)
	}
}
