package transcribe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Doer sends requests where they may go.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// OpenAI speaks OpenAI's transcriptions
// (platform.openai.com/docs/api-reference/audio), as others do too.
type OpenAI struct {
	// Base ends before /audio/transcriptions; Key is empty where none is
	// wanted.
	Base, Key string
	// Model is asked for where a request names none.
	Model  string
	Client Doer
}

var _ Engine = OpenAI{}

// Transcribe sends the audio as it is.
func (e OpenAI) Transcribe(ctx context.Context, a Audio, o Options) (*Transcript, error) {
	model := e.Model
	if o.Model != "" {
		model = o.Model
	}
	fields := [][2]string{
		{"model", model}, {"response_format", "verbose_json"},
		{"timestamp_granularities[]", "segment"}, {"timestamp_granularities[]", "word"},
		{"language", o.Language}, {"prompt", o.Prompt},
	}
	authorization := ""
	if e.Key != "" {
		authorization = "Bearer " + e.Key
	}
	return post(ctx, e.Client, e.Base+"/audio/transcriptions", authorization, a, fields)
}

// WhisperCPP speaks the protocol of whisper.cpp's server.
type WhisperCPP struct {
	// Base ends before /inference.
	Base   string
	Client Doer
}

var _ Engine = WhisperCPP{}

// Transcribe sends the audio as it is; the server has one model.
func (e WhisperCPP) Transcribe(ctx context.Context, a Audio, o Options) (*Transcript, error) {
	if o.Model != "" {
		return nil, upstream.Refuse("engine", "whisper.cpp's server has the model that it was started with")
	}
	fields := [][2]string{{"response_format", "verbose_json"}, {"temperature", "0.0"}, {"language", o.Language}, {"prompt", o.Prompt}}
	return post(ctx, e.Client, e.Base+"/inference", "", a, fields)
}

// maxAnswer bounds what an engine says of one audio.
const maxAnswer = 32 << 20

// post sends a form with a file and reads a verbose transcription.
func post(ctx context.Context, client Doer, url, authorization string, a Audio, fields [][2]string) (*Transcript, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range fields {
		if f[1] != "" {
			form.WriteField(f[0], f[1]) //nolint:errcheck // a buffer takes everything
		}
	}
	file, err := form.CreateFormFile("file", "audio."+Types[a.MediaType])
	if err == nil {
		_, err = file.Write(a.Bytes)
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return nil, &upstream.RequestError{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &body)
	if err != nil {
		return nil, &upstream.RequestError{Err: err}
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	b, err := upstream.Exchange(client, req, maxAnswer)
	if err != nil {
		return nil, err
	}
	return parseVerbose(b)
}

// verbose is OpenAI's verbose transcription, which whisper.cpp has too.
type verbose struct {
	Text     string    `json:"text"`
	Language string    `json:"language"`
	Duration float64   `json:"duration"`
	Segments []segment `json:"segments"`
	Words    []word    `json:"words"`
}

type segment struct {
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Text  string  `json:"text"`
	Words []word  `json:"words"`
}

type word struct {
	Start       float64 `json:"start"`
	End         float64 `json:"end"`
	Word        string  `json:"word"`
	Probability float64 `json:"probability"`
}

// maxSpans bounds the pieces of one transcript.
const maxSpans = 200_000

// parseVerbose reads an engine's answer. The error is an *upstream.Error.
func parseVerbose(b []byte) (*Transcript, error) {
	var v verbose
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, upstream.Breaks("its answer: %w", err)
	}
	if len(v.Segments) > maxSpans || len(v.Words) > maxSpans {
		return nil, upstream.Breaks("its answer has more than %d pieces", maxSpans)
	}
	t := &Transcript{Text: strings.TrimSpace(v.Text), Language: v.Language, Duration: seconds(v.Duration)}
	words := v.Words
	for _, s := range v.Segments {
		t.Segments = append(t.Segments, Span{Start: seconds(s.Start), End: seconds(s.End), Text: strings.TrimSpace(s.Text)})
		if len(v.Words) == 0 {
			words = append(words, s.Words...)
		}
	}
	for _, w := range words[:min(len(words), maxSpans)] {
		t.Words = append(t.Words, Span{Start: seconds(w.Start), End: seconds(w.End), Text: strings.TrimSpace(w.Word), Confidence: w.Probability})
	}
	return t, t.check()
}

// seconds is a duration that an engine gives as a number; one that is none, or
// beyond a week, is negative, which check refuses.
func seconds(s float64) time.Duration {
	const week = 7 * 24 * 3600
	if !(s >= 0 && s < week) {
		return -1
	}
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}
