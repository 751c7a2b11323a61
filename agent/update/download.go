package update

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// download reads a file by parts, and fails at its end where it was another one. The
// next part is fetched while one is compared and written, and no more than that: a
// machine has little memory.
type download struct {
	file  release.File
	parts <-chan part
	// cancel ends the fetching, and cut is why that ended before the file did: set
	// before parts is closed.
	cancel context.CancelFunc
	cut    error
	hash   hash.Hash
	at     int64
	rest   []byte
}

// part is one of a file's, or why there is none.
type part struct {
	bytes []byte
	err   error
}

// newDownload begins to fetch a file; stop has to end that.
func newDownload(ctx context.Context, source Source, of attest.ReleaseDigest, f release.File) *download {
	ctx, cancel := context.WithCancel(ctx)
	parts := make(chan part)
	d := &download{file: f, parts: parts, cancel: cancel, hash: sha256.New()}
	go func() {
		defer close(parts)
		for at := int64(0); ; {
			b, err := source.File(ctx, of, f.Name, at)
			select {
			case parts <- part{b, err}:
			case <-ctx.Done():
				d.cut = ctx.Err()
				return
			}
			if at += int64(len(b)); err != nil || len(b) == 0 || at >= f.Bytes {
				return
			}
		}
	}()
	return d
}

// stop returns once nothing more is asked of the source.
func (d *download) stop() {
	d.cancel()
	for range d.parts { //nolint:revive // what is under way is not wanted any more
	}
}

func (d *download) Read(b []byte) (int, error) {
	if len(d.rest) == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// next takes the part from at on. Whoever reads asks for no more bytes than the
// file has, so that it is compared as soon as its last part is here.
func (d *download) next() error {
	p, more := <-d.parts
	if !more {
		p.err = d.cut
	}
	switch {
	case p.err != nil:
		return p.err
	case len(p.bytes) == 0 || d.at+int64(len(p.bytes)) > d.file.Bytes:
		return fmt.Errorf("%w: %s has %d bytes, want %d", errOther, d.file.Name, d.at+int64(len(p.bytes)), d.file.Bytes)
	}
	d.hash.Write(p.bytes) //nolint:errcheck // it never fails
	d.at += int64(len(p.bytes))
	if d.at == d.file.Bytes && !slices.Equal(d.hash.Sum(nil), d.file.SHA256[:]) {
		return fmt.Errorf("%w: %s has another digest", errOther, d.file.Name)
	}
	d.rest = p.bytes
	return nil
}
