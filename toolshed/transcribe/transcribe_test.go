package transcribe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

const sentence = "hello world this is a test of speech"

// spoken is a sentence said by another program, in a file of that kind.
func spoken(t *testing.T, ending string, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	wav, file := filepath.Join(dir, "said.wav"), filepath.Join(dir, "audio."+ending)
	run(t, "flite", "-voice", "rms", "-t", sentence, "-o", wav)
	run(t, "ffmpeg", append(append([]string{"-nostdin", "-loglevel", "error", "-i", wav}, options...), file)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func sphinx(t *testing.T) PocketSphinx {
	t.Helper()
	path, err := exec.LookPath("pocketsphinx_continuous")
	if err != nil {
		t.Fatal("pocketsphinx is missing (Debian packages pocketsphinx, pocketsphinx-en-us)")
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Fatal("ffmpeg is missing (Debian package ffmpeg)")
	}
	return PocketSphinx{Path: path, FFmpeg: ffmpeg}
}

// What one program says another hears, in every kind of file, with no network.
func TestPocketSphinxHears(t *testing.T) {
	if testing.Short() {
		t.Skip("hearing takes seconds")
	}
	e := sphinx(t)
	for _, c := range []struct {
		mediaType, ending string
		options           []string
	}{
		{"audio/wav", "wav", []string{"-ar", "16000", "-ac", "1"}},
		{"audio/wav", "wav", []string{"-ar", "44100", "-ac", "2"}},
		{"audio/mpeg", "mp3", nil},
		{"audio/ogg", "ogg", []string{"-c:a", "libvorbis"}},
		{"audio/webm", "webm", []string{"-c:a", "libopus", "-b:a", "64k"}},
	} {
		got, err := e.Transcribe(t.Context(), Audio{MediaType: c.mediaType, Bytes: spoken(t, c.ending, c.options...)}, Options{Language: "en"})
		if err != nil {
			t.Errorf("%s: %v", c.mediaType, err)
			continue
		}
		if heard := strings.Fields(got.Text); common(heard) < 5 || len(got.Words) < 6 || got.Duration < time.Second || got.Segments[0].End <= got.Segments[0].Start {
			t.Errorf("%s: %+v", c.mediaType, got)
		}
	}
	var request *upstream.RequestError
	for _, o := range []Options{{Language: "de"}, {Model: "large"}} {
		if _, err := e.Transcribe(t.Context(), Audio{MediaType: "audio/wav"}, o); !errors.As(err, &request) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// common is how many words of the sentence were heard.
func common(heard []string) (n int) {
	for _, w := range heard {
		if strings.Contains(" "+sentence+" ", " "+w+" ") {
			n++
		}
	}
	return n
}

// What is not audio is said to be none, and what names other files does not
// have them read.
func TestBadAudio(t *testing.T) {
	e := sphinx(t)
	secret := filepath.Join(t.TempDir(), "secret.wav")
	if err := os.WriteFile(secret, spoken(t, "wav"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]Audio{
		"noise":      {"audio/mpeg", []byte(strings.Repeat("noise", 1000))},
		"empty wav":  {"audio/wav", []byte("RIFF\x00\x00\x00\x00WAVE")},
		"a list":     {"audio/ogg", []byte("ffconcat version 1.0\nfile '" + secret + "'\n")},
		"a playlist": {"audio/webm", []byte("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://" + secret + "\n#EXT-X-ENDLIST\n")},
	} {
		if got, err := e.Transcribe(t.Context(), a, Options{}); !errors.Is(err, ErrAudio) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	e.FFmpeg = ""
	var request *upstream.RequestError
	if _, err := e.Transcribe(t.Context(), Audio{MediaType: "audio/mpeg", Bytes: []byte{1}}, Options{}); !errors.As(err, &request) || request.Field != "content-type" {
		t.Errorf("without ffmpeg: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sphinx(t).Transcribe(ctx, Audio{MediaType: "audio/mpeg", Bytes: []byte{1}}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

const answered = `{"text":" Hello there.","language":"english","duration":2.5,"segments":[{"start":0.0,"end":1.25,"text":" Hello"},
	{"start":1.25,"end":2.5,"text":" there <i>.","words":[{"word":"there","start":1.3,"end":2.0,"probability":0.9}]}]}`

// remote speaks the two protocols as their documentation has them; it hears
// nothing.
func remote(t *testing.T, status int, answer string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, header, err := r.FormFile("file")
		if err != nil || header.Filename != "audio.mp3" || r.FormValue("response_format") != "verbose_json" {
			t.Errorf("asked %v, %v", r.Form, err)
		} else {
			file.Close()
		}
		if r.URL.Path == "/v1/audio/transcriptions" && (r.FormValue("model") != "whisper-1" || r.Header.Get("Authorization") != "Bearer key") {
			t.Errorf("asked %v", r.Form)
		}
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRemoteEngines(t *testing.T) {
	a := Audio{MediaType: "audio/mpeg", Bytes: []byte("x")}
	s := remote(t, 200, answered)
	for _, e := range []Engine{
		OpenAI{Base: s.URL + "/v1", Key: "key", Model: "whisper-1", Client: s.Client()}, WhisperCPP{Base: s.URL, Client: s.Client()},
	} {
		got, err := e.Transcribe(t.Context(), a, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Text != "Hello there." || len(got.Segments) != 2 || got.Segments[1].Start != 1250*time.Millisecond || len(got.Words) != 1 || got.Words[0].Confidence != 0.9 {
			t.Errorf("%+v", got)
		}
		if srt := got.SRT(); !strings.HasPrefix(srt, "1\n00:00:00,000 --> 00:00:01,250\nHello\n\n2\n") {
			t.Errorf("%s", srt)
		}
		if vtt := got.VTT(); !strings.Contains(vtt, "00:00:01.250 --> 00:00:02.500\nthere &lt;i&gt;.") {
			t.Errorf("%s", vtt)
		}
	}
	for name, c := range map[string]struct {
		status int
		answer string
		kind   upstream.Kind
	}{
		"limited": {429, "", upstream.Limited}, "failing": {500, "", upstream.Failed}, "no JSON": {200, "{", upstream.Broken},
		"backwards": {200, `{"segments":[{"start":3,"end":2}]}`, upstream.Broken},
		"too many":  {200, `{"words":[` + strings.Repeat("{},", maxSpans) + `{}]}`, upstream.Broken},
		"no number": {200, `{"duration":1e300,"segments":[{"start":1e300,"end":1e301}]}`, upstream.Broken},
	} {
		s := remote(t, c.status, c.answer)
		var fault *upstream.Error
		if got, err := (WhisperCPP{Base: s.URL, Client: s.Client()}).Transcribe(t.Context(), a, Options{}); !errors.As(err, &fault) || fault.Kind != c.kind {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// What was said can end neither its own cue nor begin another.
func TestCues(t *testing.T) {
	said := &Transcript{Segments: []Span{{End: time.Second, Text: "one\n\n00:00:05.000 --> 00:00:06.000\r\n<b>two"}}}
	if want, got := "1\n00:00:00,000 --> 00:00:01,000\none 00:00:05.000 --> 00:00:06.000 <b>two\n\n", said.SRT(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if want, got := "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none 00:00:05.000 --&gt; 00:00:06.000 &lt;b&gt;two\n\n", said.VTT(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whoever decodes opens nothing but its pipe, and takes no form that names
// files: each is barred by itself.
func TestDecoderIsBarred(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s ' \"$@\" \"environment: $SECRET\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "of the toolshed")
	said, err := decoder{ffmpeg: program}.samples(t.Context(), Audio{MediaType: "audio/mpeg", Bytes: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-protocol_whitelist pipe ", "-format_whitelist wav,mp3,ogg,matroska,webm ", "-nostdin ", "-i pipe:0 ", "-t 14400 ", "environment:  ",
	} {
		if !strings.Contains(string(said), want) {
			t.Errorf("it is not told %s: %s", want, said)
		}
	}
}

func FuzzPlainWAV(f *testing.F) {
	f.Add([]byte("RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data\x04\x00\x00\x00\x01\x02\x03\x04"))
	f.Add([]byte("RIFF\x24\x00\x00\x00WAVEjunk\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pcm, ok := plainWAV(b); ok && (len(pcm) == 0 || len(pcm)%2 != 0) {
			t.Errorf("%d bytes of samples", len(pcm))
		}
	})
}

func FuzzVerbose(f *testing.F) {
	f.Add([]byte(answered))
	f.Fuzz(func(_ *testing.T, b []byte) {
		got, err := parseVerbose(b)
		if err == nil {
			_, _ = got.SRT(), got.VTT()
		}
	})
}

func FuzzSphinx(f *testing.F) {
	f.Add("go far\n<s> 0.090 0.160 0.99\ngo(2) 0.17 0.41 0.08\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := parseSphinx(strings.NewReader(text))
		if len(got.Words) > len(text) {
			t.Error("more words than letters")
		}
	})
}
