package toolshed_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// picture is a PNG of one colour.
func picture(shade uint8) []byte {
	m := image.NewGray(image.Rect(0, 0, 8, 4))
	for i := range m.Pix {
		m.Pix[i] = shade
	}
	m.Set(0, 0, color.White)
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// painters speak the three protocols as their documentation has them; they are
// no models.
func painters(t *testing.T) *httptest.Server {
	t.Helper()
	encoded := base64.StdEncoding.EncodeToString(picture(10))
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := map[string]any{}
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
		}
		switch r.URL.Path {
		case "/v1/images/generations":
			if asked["size"] != "512x256" || asked["n"] != 1.0 {
				t.Errorf("asked %v", asked)
			}
			fmt.Fprintf(w, `{"data":[{"b64_json":%q}]}`, encoded)
		case "/fal/fal-ai/flux/dev":
			if r.Header.Get("Authorization") != "Key fal-key" || asked["seed"] != 7.0 {
				t.Errorf("asked %v %v", r.Header, asked)
			}
			fmt.Fprintf(w, `{"images":[{"url":"%s/made/1.png"},{"url":"%s/made/2.png"}],"seed":7}`, s.URL, s.URL)
		case "/made/1.png":
			w.Write(picture(20)) //nolint:errcheck // a test's server
		case "/made/2.png":
			w.Write(picture(30)) //nolint:errcheck // as above
		case "/sdapi/v1/txt2img":
			fmt.Fprintf(w, `{"images":[%q],"info":"{\"all_seeds\":[42]}"}`, encoded)
		case "/liar/v1/images/generations":
			fmt.Fprintf(w, `{"data":[{"b64_json":%q}]}`, base64.StdEncoding.EncodeToString([]byte("<svg onload=alert(1)>")))
		case "/inside/v1/images/generations":
			fmt.Fprint(w, `{"data":[{"url":"http://169.254.169.254/latest/"}]}`)
		case "/few/v1/images/generations":
			fmt.Fprint(w, `{"data":[]}`)
		case "/busy/v1/images/generations":
			w.Header().Set("Retry-After", "11")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func imgConfig(t *testing.T, up string) string {
	t.Setenv("FAL_KEY", "fal-key")
	text := allowLoopback + "img:\n  quota_bytes: 100000\n  providers:\n"
	for name, line := range map[string]string{
		"oa": "{kind: openai, url: %s/v1}", "fal": "{kind: fal, url: %s/fal, key: {env: FAL_KEY}}", "sd": "{kind: stable-diffusion, url: %s}",
		"liar": "{kind: openai, url: %s/liar/v1}", "inside": "{kind: openai, url: %s/inside/v1}",
		"few": "{kind: openai, url: %s/few/v1}", "busy": "{kind: openai, url: %s/busy/v1}",
	} {
		text += "    " + name + ": " + fmt.Sprintf(line, up) + "\n"
	}
	return text
}

type madeImages struct {
	Images []struct {
		Hash, URL string
		MediaType string `json:"media_type"`
		Width     int
		Seed      *int64
	}
}

func TestImages(t *testing.T) {
	s := serveWith(t, imgConfig(t, painters(t).URL))
	makes := func(body string) (int, string, madeImages) {
		t.Helper()
		status, text, _ := ask(t, s, "POST", "/api/ai/img", body, "Content-Type", "application/json")
		var m madeImages
		if status == 201 {
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Fatal(err)
			}
		}
		return status, text, m
	}
	for body, count := range map[string]int{
		`{"model":"oa/gpt-image","prompt":"a loaf","width":512,"height":256}`:  1,
		`{"model":"fal/fal-ai/flux/dev","prompt":"a loaf","count":2,"seed":7}`: 2,
		`{"model":"sd/","prompt":"a loaf"}`:                                    1,
	} {
		status, text, m := makes(body)
		if status != 201 || len(m.Images) != count {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		i := m.Images[0]
		status, got, h := ask(t, s, "GET", i.URL, "")
		if sum := sha256.Sum256([]byte(got)); status != 200 || fmt.Sprintf("%x", sum) != i.Hash || h.Get("Content-Type") != "image/png" || i.Width != 8 {
			t.Errorf("%s: %d %v %+v", body, status, h, i)
		}
		if status, _, _ := ask(t, s, "GET", i.URL, "", "If-None-Match", h.Get("ETag")); status != 304 {
			t.Errorf("again: %d", status)
		}
		if strings.Contains(body, "seed") && (i.Seed == nil || *i.Seed != 7) {
			t.Errorf("seed of %+v", i)
		}
	}
	for body, want := range map[string]string{
		`{"model":"liar/x","prompt":"a"}`: "502 provider-broken", `{"model":"inside/x","prompt":"a"}`: "502 provider-unreachable",
		`{"model":"few/x","prompt":"a"}`: "502 provider-broken", `{"model":"busy/x","prompt":"a"}`: "503 provider-rate-limited",
		`{"model":"nobody/x","prompt":"a"}`: "404 no-model", `{"model":"oa","prompt":"a"}`: "422 unprocessable-entity",
		`{"model":"oa/x","prompt":"a","seed":1}`: "422 unprocessable-entity", `{"model":"oa/x","prompt":"a","width":3}`: "422 unprocessable-entity",
	} {
		status, text, _ := makes(body)
		var p struct{ Code string }
		if err := json.Unmarshal([]byte(text), &p); err != nil || fmt.Sprint(status, " ", p.Code) != want {
			t.Errorf("%s: %d %s, want %s", body, status, text, want)
		}
	}
}

// Images that do not fit are not kept, none of them; deleting makes room.
func TestImagesQuota(t *testing.T) {
	up := painters(t).URL
	s := serveWith(t, strings.Replace(imgConfig(t, up), "quota_bytes: 100000", fmt.Sprintf("quota_bytes: %d", 2*len(picture(20))-1), 1))
	const two = `{"model":"fal/fal-ai/flux/dev","prompt":"a loaf","count":2,"seed":7}`
	if status, text, _ := ask(t, s, "POST", "/api/ai/img", two, "Content-Type", "application/json"); status != 507 || !strings.Contains(text, "quota") {
		t.Errorf("%d %s", status, text)
	}
	if _, text, _ := ask(t, s, "GET", "/api/ai/img", ""); !strings.Contains(text, `"images":[]`) {
		t.Errorf("half of them: %s", text)
	}
	_, text, _ := ask(t, s, "POST", "/api/ai/img", `{"model":"sd/","prompt":"a loaf"}`, "Content-Type", "application/json")
	var m madeImages
	if err := json.Unmarshal([]byte(text), &m); err != nil || len(m.Images) != 1 {
		t.Fatalf("%v %s", err, text)
	}
	if status, _, _ := ask(t, s, "DELETE", m.Images[0].URL, ""); status != 204 {
		t.Errorf("deleting: %d", status)
	}
	if status, _, _ := ask(t, s, "GET", m.Images[0].URL, ""); status != 404 {
		t.Errorf("deleted: %d", status)
	}
}
