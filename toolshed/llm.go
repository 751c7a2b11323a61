package toolshed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/anthropic"
	"github.com/toolshed-cloud/shed/toolshed/llm/openai"
)

// llmSection is the part of the configuration about language models.
type llmSection struct {
	Providers map[string]provider `yaml:"providers"`
	// Aliases are names for models, each with PROVIDER/MODEL, the best first.
	Aliases map[string][]string `yaml:"aliases"`
	// Prices are by PROVIDER/MODEL, for a million tokens.
	Prices   map[string]llm.Price `yaml:"prices"`
	Tries    int                  `yaml:"tries"`
	Patience time.Duration        `yaml:"patience"`
	Timeout  time.Duration        `yaml:"timeout"`
}

// maxLLMBytes bounds what a provider may answer to one request.
const maxLLMBytes = 64 << 20

func (r *Root) openLLM(ctx context.Context) error {
	section := llmSection{Tries: 3, Patience: 20 * time.Second, Timeout: 2 * time.Minute}
	if err := r.Config.Section("llm", &section); err != nil {
		return err
	}
	if section.Tries < 1 || section.Timeout <= 0 {
		return fmt.Errorf("%w: llm: want tries of 1 or more and a timeout", config.ErrConfig)
	}
	router := &llm.Router{
		Providers: map[string]llm.Provider{}, Aliases: map[string][]llm.Target{},
		Tries: section.Tries, Patience: section.Patience, Timeout: section.Timeout, Sleep: sleep,
	}
	client := r.fetch.Client(fetch.Limits{Bytes: maxLLMBytes})
	for name, p := range section.Providers {
		provider, err := r.llmProvider(p, client)
		if err != nil {
			return fmt.Errorf("llm.providers.%s: %w", name, err)
		}
		router.Providers[name] = provider
	}
	for alias, texts := range section.Aliases {
		targets, err := llmTargets(texts, router)
		if err != nil {
			return fmt.Errorf("%w: llm.aliases.%s: %w", config.ErrConfig, alias, err)
		}
		router.Aliases[alias] = targets
	}
	db, err := r.open(ctx, llm.Schema)
	if err != nil {
		return err
	}
	llm.Register(r.mount("llm", llm.Limits), llm.New(router, section.Prices, db, r.Now))
	return nil
}

func (r *Root) llmProvider(p provider, client *http.Client) (llm.Provider, error) {
	key, err := r.providerKey(p)
	if err != nil {
		return nil, err
	}
	switch p.Kind {
	case "openai":
		return openai.New(p.URL, key, client), nil
	case "anthropic":
		return anthropic.New(p.URL, key, client), nil
	}
	return nil, fmt.Errorf("%w: kind: %q, want openai or anthropic", config.ErrConfig, p.Kind)
}

func llmTargets(texts []string, router *llm.Router) (targets []llm.Target, err error) {
	if len(texts) == 0 {
		return nil, errors.New("it leads nowhere")
	}
	for _, text := range texts {
		t, err := llm.ParseTarget(text)
		if err != nil {
			return nil, err
		}
		if router.Providers[t.Provider] == nil {
			return nil, fmt.Errorf("%s: there is no such provider", t)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// sleep waits, or ends with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
