package toolshed

import (
	"context"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/transcribe"
)

// transcribeSection is the part of the configuration about speech.
type transcribeSection struct {
	Engines map[string]transcribeEngine `yaml:"engines"`
	// First is the engine where a request names none.
	First   string        `yaml:"first"`
	Timeout time.Duration `yaml:"timeout"`
}

type transcribeEngine struct {
	Kind  string        `yaml:"kind"`
	URL   string        `yaml:"url"`
	Key   config.Secret `yaml:"key"`
	Model string        `yaml:"model"`
	// Path and FFmpeg are programs, of an engine on this machine.
	Path   string `yaml:"path"`
	FFmpeg string `yaml:"ffmpeg"`
}

func (r *Root) openTranscribe(context.Context) error {
	section := transcribeSection{Timeout: 10 * time.Minute}
	if err := r.Config.Section("transcribe", &section); err != nil {
		return err
	}
	client := r.fetch.Client(fetch.Limits{Timeout: section.Timeout, Bytes: transcribe.MaxBytes})
	engines := map[string]transcribe.Engine{}
	for name, e := range section.Engines {
		engine, err := r.transcribeEngine(e, client)
		if err != nil {
			return fmt.Errorf("transcribe.engines.%s: %w", name, err)
		}
		engines[name] = engine
	}
	if section.First != "" && engines[section.First] == nil {
		return fmt.Errorf("%w: transcribe.first: %q is no engine", config.ErrConfig, section.First)
	}
	transcribe.Register(r.mount("transcribe", transcribe.Limits), engines, section.First)
	return nil
}

func (r *Root) transcribeEngine(e transcribeEngine, client transcribe.Doer) (transcribe.Engine, error) {
	if e.Kind == "pocketsphinx" {
		if e.Path == "" {
			return nil, fmt.Errorf("%w: path: is missing", config.ErrConfig)
		}
		return transcribe.PocketSphinx{Path: e.Path, FFmpeg: e.FFmpeg}, nil
	}
	key, err := r.providerKey(provider{URL: e.URL, Key: e.Key})
	if err != nil {
		return nil, err
	}
	switch e.Kind {
	case "openai":
		return transcribe.OpenAI{Base: e.URL, Key: key, Model: e.Model, Client: client}, nil
	case "whisper.cpp":
		return transcribe.WhisperCPP{Base: e.URL, Client: client}, nil
	}
	return nil, fmt.Errorf("%w: kind: %q, want openai, whisper.cpp or pocketsphinx", config.ErrConfig, e.Kind)
}
