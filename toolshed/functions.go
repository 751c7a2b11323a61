package toolshed

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/functions"
	"github.com/toolshed-cloud/shed/toolshed/mount"
)

// functionsSection is the part of the configuration about functions.
type functionsSection struct {
	Concurrent int   `yaml:"concurrent"`
	QuotaBytes int64 `yaml:"quota_bytes"`
}

func (r *Root) openFunctions(ctx context.Context) error {
	section := functionsSection{Concurrent: 8, QuotaBytes: 512 << 20}
	if err := r.Config.Section("functions", &section); err != nil {
		return err
	}
	db, err := r.open(ctx, functions.Schema)
	if err != nil {
		return err
	}
	client := r.fetch.Client(fetch.Limits{Timeout: time.Minute, Bytes: functions.MaxFetchedBytes, Redirects: 5})
	s, err := functions.New(ctx, functions.Options{
		DB: db, Folder: r.Data.Path("functions-compiled"), Fetch: following{client},
		Now: r.Now, Random: r.Random,
		Concurrent: section.Concurrent, Quota: section.QuotaBytes, Software: "toolshed/" + Version, Log: r.Log,
		Publish: r.publisher("functions"),
	})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, s.Close)
	scheduled, stop := context.WithCancel(r.site.Stopping)
	var running sync.WaitGroup
	running.Go(func() { s.Schedule(scheduled, functions.Minutes{Now: r.Now}) })
	r.closers = append(r.closers, func() error { stop(); running.Wait(); return nil })
	functions.Register(r.mount("functions", mount.Limits{Lasting: 4 * section.Concurrent}), s)
	r.origins = append(r.origins, ofKind("fn", s.Origin))
	return nil
}

// following asks its caller about each address that an answer leads to.
type following struct{ client *http.Client }

var _ functions.Doer = following{}

func (f following) Do(req *http.Request, allow func(*url.URL) error) (*http.Response, error) {
	client := *f.client
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if err := allow(next.URL); err != nil {
			return err
		}
		return f.client.CheckRedirect(next, via)
	}
	return client.Do(req)
}
