package transcribe

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// PocketSphinx hears American English on this machine, with nothing fetched:
// Debian's packages pocketsphinx and pocketsphinx-en-us.
type PocketSphinx struct {
	// Path is pocketsphinx_continuous; FFmpeg's is empty where there is none.
	Path, FFmpeg string
}

var _ Engine = PocketSphinx{}

// Transcribe decodes the audio and has the program hear it.
func (e PocketSphinx) Transcribe(ctx context.Context, a Audio, o Options) (*Transcript, error) {
	switch {
	case o.Model != "":
		return nil, upstream.Refuse("engine", "this engine has one model")
	case o.Language != "" && o.Language != "en" && o.Language != "en-US":
		return nil, upstream.Refuse("language", "is %.16q; this engine hears en alone", o.Language)
	}
	pcm, err := decoder{ffmpeg: e.FFmpeg}.samples(ctx, a)
	if err != nil {
		return nil, err
	}
	out, err := e.hear(ctx, pcm)
	if err != nil {
		return nil, err
	}
	t := parseSphinx(bytes.NewReader(out))
	t.Language, t.Duration = "en", time.Duration(len(pcm)/2)*time.Second/sampleRate
	return t, t.check()
}

// hear runs the program on a file: it reads no pipe.
func (e PocketSphinx) hear(ctx context.Context, pcm []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "toolshed-transcribe-")
	if err != nil {
		return nil, fmt.Errorf("transcribing: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	name := dir + "/audio.raw"
	if err := os.WriteFile(name, pcm, 0o600); err != nil {
		return nil, fmt.Errorf("transcribing: %w", err)
	}
	cmd := exec.CommandContext(ctx, e.Path, "-infile", name, "-time", "yes", "-logfn", os.DevNull)
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, upstream.Breaks("pocketsphinx: %w", err)
	}
	return out, nil
}

// parseSphinx reads what the program prints: for each phrase its text, then a
// line a word with start, end and confidence. What is no word stands in
// brackets; a word said in another way bears a number.
func parseSphinx(r io.Reader) *Transcript {
	t := &Transcript{}
	phrase := -1
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		w, isWord := sphinxWord(line)
		switch {
		case line == "":
		case !isWord:
			t.Segments = append(t.Segments, Span{Text: line})
			phrase = len(t.Segments) - 1
		case phrase >= 0 && !strings.ContainsAny(w.Text, "<>[]+"):
			w.Text, _, _ = strings.Cut(w.Text, "(")
			s := &t.Segments[phrase]
			if s.End == 0 {
				s.Start = w.Start
			}
			s.End = w.End
			t.Words = append(t.Words, w)
		}
	}
	var all []string
	for _, s := range t.Segments {
		all = append(all, s.Text)
	}
	t.Text = strings.Join(all, "\n")
	return t
}

func sphinxWord(line string) (w Span, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 4 {
		return w, false
	}
	var numbers [3]float64
	for i, f := range fields[1:] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil || !strings.Contains(f, ".") {
			return w, false
		}
		numbers[i] = n
	}
	return Span{Text: fields[0], Start: seconds(numbers[0]), End: seconds(numbers[1]), Confidence: min(max(numbers[2], 0), 1)}, true
}
