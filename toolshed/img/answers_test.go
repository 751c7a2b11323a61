package img

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// answering answers every request with the same bytes.
type answering []byte

func (a answering) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a)), Request: r}, nil
}

// Whatever a provider answers, what comes of it is images that are looked at, or
// the provider's fault.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"data":[{"b64_json":"R0lGODlhAQACAAAAACw="},{"url":"http://127.0.0.1/x"}]}`,
		`{"images":[{"url":"data:image/gif;base64,R0lGODlhAQACAAAAACw="},{"url":"data:,x"}],"seed":7}`,
		`{"images":["R0lGODlhAQACAAAAACw=","AQ=="],"info":"{\"all_seeds\":[7]}"}`,
		`{"images":[{"url":"\u007f"}]}`, `{"data":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		client := answering(answer)
		for _, p := range []Provider{OpenAI{Client: client}, Fal{Client: client}, StableDiffusion{Client: client}} {
			all, err := p.Make(t.Context(), Request{Model: "m", Prompt: "p", Width: 8, Height: 8, Count: 1})
			if err != nil {
				checkFault(t, err)
				continue
			}
			for _, made := range all {
				_, width, height, err := look(made.Bytes)
				switch {
				case err != nil:
					checkFault(t, err)
				case width < 0 || height < 0:
					t.Errorf("an image of %dx%d", width, height)
				}
			}
		}
	})
}

func checkFault(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*upstream.Error](err); !ok {
		t.Errorf("%T: %v", err, err)
	}
}
