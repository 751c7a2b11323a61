package toolshed

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/functions"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/queue"
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
	if section.Concurrent < 1 || section.QuotaBytes <= 0 {
		return fmt.Errorf("%w: functions: concurrent and quota_bytes are positive", config.ErrConfig)
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
	r.background(func(ctx context.Context) { s.Schedule(ctx, functions.Minutes{Now: r.Now}) })
	r.background(func(ctx context.Context) { s.Follow(ctx, messagesOf{r.queue}) })
	m := r.mount("functions", mount.Limits{Lasting: 4 * section.Concurrent})
	functions.Register(m, s)
	r.origins = append(r.origins, ofKind("fn", func(name string) http.Handler { return m.Owning(s.Origin(name)) }))
	return nil
}

// messagesOf gives functions the messages of the queues.
type messagesOf struct{ queue *queue.Queue }

var _ functions.Consumer = messagesOf{}

// The deliveries of one queue at once, and how long one outlives this process.
const (
	functionDeliveries = 4
	functionLease      = time.Minute
)

func (m messagesOf) Consume(ctx context.Context, name string, handle func(context.Context, string, []byte) error) error {
	return m.queue.Consume(ctx, queue.Consumer{
		Queue: name, Parallel: functionDeliveries, Lease: functionLease,
		Handle: func(ctx context.Context, message queue.Message) error {
			return handle(ctx, strconv.FormatInt(message.ID, 10), message.Body)
		},
	})
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
