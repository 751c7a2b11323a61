package img

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// painter makes what it has.
type painter []Made

func (p painter) Make(context.Context, Request) ([]Made, error) { return p, nil }

// pictures are images that differ.
func pictures(t *testing.T, n int) (all painter) {
	t.Helper()
	for i := range n {
		m := image.NewGray(image.Rect(0, 0, 8, 8))
		m.Pix[0] = uint8(i)
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		all = append(all, Made{Bytes: b.Bytes()})
	}
	return all
}

func newGallery(t *testing.T, p Provider) *Gallery {
	t.Helper()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return &Gallery{Providers: map[string]Provider{"p": p}, DB: db, Now: func() time.Time { return time.Unix(1_000_000, 0) }, Quota: 1 << 20}
}

// Images that were made at one time are listed once each, page after page.
func TestPages(t *testing.T) {
	g := newGallery(t, pictures(t, 5))
	if _, err := g.Make(t.Context(), "p", Request{Count: 5}); err != nil {
		t.Fatal(err)
	}
	seen := map[Hash]bool{}
	from := Page{Before: g.Now().Add(time.Second)}
	for range 3 {
		all, err := g.List(t.Context(), from, 2)
		if err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
		for _, i := range all {
			if seen[i.Hash] {
				t.Errorf("%s is listed twice", i.Hash)
			}
			seen[i.Hash] = true
		}
		last := all[len(all)-1]
		from = Page{Before: last.CreatedAt, After: &last.Hash}
	}
	if len(seen) != 5 {
		t.Errorf("%d of 5 are listed", len(seen))
	}
	if all, err := g.List(t.Context(), Page{Before: g.Now()}, 10); err != nil || len(all) != 0 {
		t.Errorf("%d before the first, %v", len(all), err)
	}
}

// What is too large, is no image, or is one too few is the provider's fault, and
// nothing of it is kept.
func TestWhatIsNotKept(t *testing.T) {
	large := make([]byte, MaxBytes+1)
	copy(large, pictures(t, 1)[0].Bytes)
	noise := make([]byte, 100)
	rand.Read(noise)
	for name, p := range map[string]painter{
		"too large": {pictures(t, 1)[0], {Bytes: large}}, "no image": {pictures(t, 1)[0], {Bytes: noise}},
		"too few": pictures(t, 1), "too many": pictures(t, 3),
	} {
		g := newGallery(t, p)
		_, err := g.Make(t.Context(), "p", Request{Count: 2})
		var fault *upstream.Error
		if !errors.As(err, &fault) || fault.Kind != upstream.Broken {
			t.Errorf("%s: %v", name, err)
		}
		if u, err := g.Usage(t.Context()); err != nil || u.Count != 0 {
			t.Errorf("%s: %d are kept, %v", name, u.Count, err)
		}
	}
}

// elsewhere is a client that a provider's answer leads to nothing.
type elsewhere string

func (e elsewhere) Do(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}
	if r.Method == http.MethodPost {
		resp.StatusCode, resp.Body = http.StatusOK, io.NopCloser(strings.NewReader(string(e)))
	}
	return resp, nil
}

// An address that leads nowhere is the fault of the provider who gave it, and
// not of who asked for an image.
func TestAddressesOfProviders(t *testing.T) {
	for _, address := range []string{"http://example.com/gone.png", "data:image/png,plain", "data:image/png;base64,%%", "http://%zz/"} {
		client := elsewhere(`{"data":[{"url":"` + address + `"}]}`)
		_, err := OpenAI{Base: "http://example.com", Client: client}.Make(t.Context(), Request{Count: 1})
		var fault *upstream.Error
		if !errors.As(err, &fault) || fault.Kind != upstream.Broken {
			t.Errorf("%s: %v", address, err)
		}
	}
}
