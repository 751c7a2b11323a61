package toolshed

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/url2text"
)

// openAPIs opens each API and gives it what it needs. An API comes into being
// here and nowhere else.
func (r *Root) openAPIs(ctx context.Context) error {
	registerHealth(r.mount("health", mount.Limits{}).API)
	auth.Register(r.mount("auth", mount.Limits{BodyBytes: 64 << 10}).API, r.guard.Tokens)
	for _, open := range []func(context.Context) error{
		r.openLive,
		r.openKVAndQueue,
		r.openURL2Text,
		r.openLLM,
		r.openImg,
		r.openTranscribe,
		r.openFunctions,
		r.openBlobs,
		r.openData,
		r.openProfile,
	} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// url2textSection is the part of the configuration about reading pages.
type url2textSection struct {
	Robots  string        `yaml:"robots"`
	Agent   string        `yaml:"agent"`
	Timeout time.Duration `yaml:"timeout"`
	// Browser is the path of a Chromium.
	Browser string `yaml:"browser"`
}

func (r *Root) openURL2Text(context.Context) error {
	section := url2textSection{Robots: "obey", Agent: "toolshed-url2text", Timeout: 30 * time.Second}
	if err := r.Config.Section("url2text", &section); err != nil {
		return err
	}
	if section.Robots != "obey" && section.Robots != "ignore" {
		return fmt.Errorf("%w: url2text.robots is %q, want obey or ignore", config.ErrConfig, section.Robots)
	}
	reader := &url2text.Reader{
		Client: r.fetch.Client(fetch.Limits{Timeout: section.Timeout, Bytes: url2text.MaxPageBytes + 1, Redirects: 10}),
		Agent:  section.Agent, ObeyRobots: section.Robots == "obey",
	}
	if section.Browser != "" {
		reader.Browser = &url2text.Chromium{
			Path: section.Browser, Dial: r.fetch.Dial, Timeout: 2 * section.Timeout, WithoutSandbox: os.Geteuid() == 0,
		}
	}
	url2text.Register(r.mount("url2text", url2text.Limits), reader)
	return nil
}
