package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// How often a transfer that breaks off is taken up again, and how long a
// registry may send nothing.
const (
	attempts = 3
	stalled  = time.Minute
)

// file fetches one file, unless it is there, and puts it under its name once all
// of it is what the manifest states.
func (p *puller) file(ctx context.Context, of part, layer ocispec.Descriptor) error {
	name := filepath.Join(p.dir, of.Name)
	if sum, size, err := files.Digest(name); err == nil && sum == of.SHA256 && size == of.Bytes {
		p.tell(of.Name, layer.Size, layer.Size)
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an earlier release: %w", err)
	}
	partial := filepath.Join(p.dir, partialName, layer.Digest.Encoded())
	if err := p.download(ctx, of.Name, layer, partial); err != nil {
		return err
	}
	err := p.take(of, partial, name)
	if err != nil {
		// It is all there, and wrong: nothing would be gained by keeping it.
		return errors.Join(err, os.Remove(partial))
	}
	return nil
}

// download brings a layer, of which partial may have the beginning.
func (p *puller) download(ctx context.Context, what string, layer ocispec.Descriptor, partial string) error {
	var err error
	for range attempts {
		if err = p.resume(ctx, what, layer, partial); !errors.Is(err, ErrIncomplete) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// resume fetches what is missing of a layer.
func (p *puller) resume(ctx context.Context, what string, layer ocispec.Descriptor, partial string) (err error) {
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", what, err)
	}
	if have == layer.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("nothing came for %s", stalled)) })
	defer watch.Stop()
	body, err := p.repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return fetched(what, err)
	}
	defer body.Close()
	if have, err = from(body, f, have, layer.Size); err != nil {
		return fmt.Errorf("fetching %s: %w", what, err)
	}
	counted := &counting{r: io.LimitReader(body, layer.Size-have), tell: func(done int64) {
		watch.Reset(stalled)
		p.tell(what, have+done, layer.Size)
	}}
	if n, err := io.Copy(f, counted); err != nil || have+n < layer.Size {
		return fmt.Errorf("%w: %s, %d of %d bytes are here: %w", ErrIncomplete, what, have+n, layer.Size, errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

// from is where a transfer goes on: where the file ends, if the registry can,
// and at the beginning otherwise.
func from(body io.Reader, f *os.File, have, size int64) (int64, error) {
	seeker, can := body.(io.Seeker)
	if can && have > 0 && have < size {
		if _, err := seeker.Seek(have, io.SeekStart); err == nil {
			return have, nil
		}
	}
	if have == 0 {
		return 0, nil
	}
	_, err := f.Seek(0, io.SeekStart)
	return 0, errors.Join(err, f.Truncate(0))
}

// take puts what came under its name, once it is what the manifest states.
func (p *puller) take(of part, partial, name string) error {
	in, err := os.Open(partial)
	if err != nil {
		return fmt.Errorf("keeping %s: %w", of.Name, err)
	}
	defer in.Close()
	var r io.Reader = in
	if of.mediaType() == diskType {
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrTampered, of.layerName(), err)
		}
		defer d.Close()
		r = d
	}
	return statefile.Fill(name, 0o644, func(f *os.File) error { return of.copyTo(f, r) })
}

// copyTo reads no more than the part has, and wants it to be that.
func (p part) copyTo(f *os.File, r io.Reader) error {
	h := sha256.New()
	n, err := copySparse(f, io.TeeReader(io.LimitReader(r, p.Bytes+1), h))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTampered, p.layerName(), err)
	}
	if sum := attest.Digest(h.Sum(nil)); n != p.Bytes || sum != p.SHA256 {
		return fmt.Errorf("%w: %s has %d bytes and sha256 %s, and the manifest states %d and %s", ErrTampered, p.Name, n, sum, p.Bytes, p.SHA256)
	}
	return nil
}

// copySparse leaves holes where there are zeros, as most of a disk is.
func copySparse(f *os.File, r io.Reader) (n int64, err error) {
	buffer, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		got, err := io.ReadFull(r, buffer)
		if got > 0 && !bytes.Equal(buffer[:got], zeros[:got]) {
			if _, err := f.WriteAt(buffer[:got], n); err != nil {
				return n, err
			}
		}
		n += int64(got)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return n, f.Truncate(n)
		case err != nil:
			return n, err
		}
	}
}
