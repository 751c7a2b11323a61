package transcribe

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

// counting is an engine that hears how long audio is.
type counting struct{ bytes []int }

func (c *counting) Transcribe(_ context.Context, a Audio, _ Options) (*Transcript, error) {
	c.bytes = append(c.bytes, len(a.Bytes))
	return &Transcript{Text: "heard"}, nil
}

// A file that is too long is refused on the page, and not cut and heard; none is
// left in the system's folder.
func TestFormOfTooMuch(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	engine := &counting{}
	h := handlers{engines: map[string]Engine{"e": engine}, first: "e"}
	for size, want := range map[int]int{MaxBytes: http.StatusOK, MaxBytes + 1: http.StatusRequestEntityTooLarge} {
		body, w := io.Pipe()
		form := multipart.NewWriter(w)
		go func() {
			file, err := form.CreateFormFile("audio", "a.wav")
			if err == nil {
				_, err = io.Copy(file, io.LimitReader(zeros{}, int64(size)))
			}
			if err == nil {
				err = form.Close()
			}
			w.CloseWithError(err)
		}()
		r := httptest.NewRequest(http.MethodPost, "/transcribe", body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		rec := httptest.NewRecorder()
		h.hear(rec, r)
		if rec.Code != want {
			t.Errorf("%d bytes: %d %.300s", size, rec.Code, bytes.TrimSpace(rec.Body.Bytes()))
		}
		if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
			t.Errorf("%d files are left, %v", len(left), err)
		}
	}
	if len(engine.bytes) != 1 || engine.bytes[0] != MaxBytes {
		t.Errorf("heard %d", engine.bytes)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
