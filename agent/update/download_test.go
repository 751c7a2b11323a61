package update

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// inParts is a file of three parts, of which the one at stuck never comes.
type inParts struct {
	api.UpdateRelease
	file  []byte
	stuck int64
	asked []int64
}

func (s *inParts) Release(context.Context, attest.ReleaseDigest) (api.UpdateRelease, error) {
	return s.UpdateRelease, nil
}

func (s *inParts) File(ctx context.Context, _ attest.ReleaseDigest, _ string, at int64) ([]byte, error) {
	s.asked = append(s.asked, at)
	if at == s.stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.file[at:min(at+10, int64(len(s.file)))], nil
}

func (s *inParts) download(t *testing.T) *download {
	f := release.File{Name: "uki.efi", Bytes: int64(len(s.file)), SHA256: attest.Sum(s.file)}
	return newDownload(t.Context(), s, attest.ReleaseDigest{}, f)
}

// One part is fetched ahead of the one that is written, and no more.
func TestDownloadIsOnePartAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &inParts{file: bytes.Repeat([]byte("part"), 7), stuck: -1}
		d := s.download(t)
		var got []byte
		for _, want := range [][]int64{{0}, {0, 10}, {0, 10, 20}, {0, 10, 20}} {
			synctest.Wait()
			if !slices.Equal(s.asked, want) {
				t.Errorf("with %d bytes it has asked for %d, want %d", len(got), s.asked, want)
			}
			b := make([]byte, min(10, len(s.file)-len(got)))
			if _, err := io.ReadFull(d, b); err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, s.file) {
			t.Errorf("read %q", got)
		}
		d.stop()
	})
}

// A download that is given up leaves nobody who asks.
func TestDownloadStops(t *testing.T) {
	for _, stuck := range []int64{-1, 0, 10} {
		synctest.Test(t, func(t *testing.T) {
			s := &inParts{file: make([]byte, 30), stuck: stuck}
			d := s.download(t)
			synctest.Wait()
			d.stop()
			d.stop()
			asked := len(s.asked)
			if synctest.Wait(); len(s.asked) != asked {
				t.Errorf("it has asked %d times, and %d before it was stopped", len(s.asked), asked)
			}
		})
	}
}

// One whose machine is switched off is not another file: that would refuse the release
// until it is offered again.
func TestDownloadThatIsCutOffIsNoOtherFile(t *testing.T) {
	for range 20 {
		ctx, off := context.WithCancel(t.Context())
		s := &inParts{file: make([]byte, 30), stuck: 10}
		f := release.File{Name: "uki.efi", Bytes: 30, SHA256: attest.Sum(s.file)}
		d := newDownload(ctx, s, attest.ReleaseDigest{}, f)
		if _, err := io.ReadFull(d, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := d.Read(make([]byte, 10))
			read <- err
		}()
		off()
		if err := <-read; !errors.Is(err, context.Canceled) || errors.Is(err, errOther) {
			t.Errorf("it fails with %v", err)
		}
		d.stop()
	}
}
