// Package transcribe turns speech into text with times.
//
// Invariants: audio is bounded before anybody hears it; whoever decodes it is
// another process, without a network and with little time; what an engine
// answers is checked before it counts; nothing of it is stored.
package transcribe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// MaxBytes bounds the audio of one request.
const MaxBytes = 64 << 20

// Audio is what is to be heard.
type Audio struct {
	// MediaType is one of Types.
	MediaType string
	Bytes     []byte
}

// Types are the kinds of audio that are taken, with the ending of their files'
// names.
var Types = map[string]string{
	"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/vnd.wave": "wav",
	"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/ogg": "ogg", "application/ogg": "ogg", "audio/opus": "ogg",
	"audio/webm": "webm", "video/webm": "webm",
}

// Options are how it is to be heard.
type Options struct {
	// Model is the engine's own name for one; empty is its default.
	Model string
	// Language is of BCP 47, as in en; empty lets the engine find out.
	Language string
	// Prompt is words that the engine should expect, where it can.
	Prompt string
}

// Span is a piece of text with when it was said, from the beginning.
type Span struct {
	Start time.Duration
	End   time.Duration
	Text  string
	// Confidence is between 0 and 1; 0 where it is not known.
	Confidence float64
}

// Transcript is what was heard.
type Transcript struct {
	Text     string
	Language string
	Duration time.Duration
	// Segments are sentences or phrases, Words words where the engine knows
	// them.
	Segments []Span
	Words    []Span
}

// Engine hears.
type Engine interface {
	// Transcribe answers what was said. Errors are an *upstream.Error, a
	// *upstream.RequestError, ErrAudio and ctx's.
	Transcribe(ctx context.Context, a Audio, o Options) (*Transcript, error)
}

// The sentinels of hearing.
var (
	// ErrAudio says that the bytes are not the audio that they should be.
	ErrAudio = errors.New("the audio cannot be decoded")
	// ErrNoEngine says that no such engine is set up.
	ErrNoEngine = errors.New("no such engine")
)

// check sees that spans follow one another: an engine may answer what it likes.
func (t *Transcript) check() error {
	for kind, spans := range map[string][]Span{"segment": t.Segments, "word": t.Words} {
		for i, s := range spans {
			if s.Start < 0 || s.End < s.Start || i > 0 && s.Start < spans[i-1].Start {
				return upstream.Breaks("%s %d is from %s to %s, and the one before from %s", kind, i, s.Start, s.End, spans[max(i-1, 0)].Start)
			}
		}
	}
	return nil
}

// SRT is the transcript as SubRip subtitles.
func (t *Transcript) SRT() string {
	var b strings.Builder
	for i, s := range t.Segments {
		fmt.Fprintf(&b, "%d\n%s --> %s\n%s\n\n", i+1, stamp(s.Start, ","), stamp(s.End, ","), oneLine(s.Text))
	}
	return b.String()
}

// VTT is the transcript as WebVTT (W3C WebVTT, section 4).
func (t *Transcript) VTT() string {
	var b strings.Builder
	b.WriteString("WEBVTT\n\n")
	for _, s := range t.Segments {
		text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(oneLine(s.Text))
		fmt.Fprintf(&b, "%s --> %s\n%s\n\n", stamp(s.Start, "."), stamp(s.End, "."), text)
	}
	return b.String()
}

// oneLine keeps a text from ending its cue.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func stamp(d time.Duration, point string) string {
	ms := d.Milliseconds()
	return fmt.Sprintf("%02d:%02d:%02d%s%03d", ms/3600_000, ms/60_000%60, ms/1000%60, point, ms%1000)
}
