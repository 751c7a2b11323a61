package queue

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed pages.html
var pagesText string

var queuePage = page.New("Queue", "", pagesText)

const (
	pageSize     = 20
	previewBytes = 120
	mediaForm    = "application/x-www-form-urlencoded"
	maxFormBytes = 4 << 10
)

// registerPages puts the page for people on the API's place.
func (h handlers) registerPages(m *mount.Mount) {
	m.Page("/queue", ScopeManage, http.HandlerFunc(h.show))
	form := mount.Route{Scope: ScopeManage, Accepts: []string{mediaForm}, BodyBytes: maxFormBytes}
	m.Handle("POST /queue/retry", form, h.doing(h.kept.Retry))
	m.Handle("POST /queue/delete", form, h.doing(h.kept.Delete))
}

type shownQueues struct {
	Alert  string
	Queues []Counts
	Lists  []shownList
	Crons  []Cron
}

type shownList struct {
	Title    string
	Messages []shownMessage
	More     bool
}

type shownMessage struct {
	ID                          int64
	Queue, Preview, Says, Error string
	CanRetry                    bool
}

func (h handlers) show(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusOK, "", r.FormValue("queue"))
}

// write answers with the page: of one queue, where it is named, what failed,
// waits and is worked on; else what failed in all.
func (h handlers) write(w http.ResponseWriter, r *http.Request, status int, alert, queue string) {
	data, err := h.gather(r.Context(), queue)
	data.Alert = alert
	if err == nil {
		err = queuePage.Write(w, status, data)
	}
	if err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

func (h handlers) gather(ctx context.Context, queue string) (data shownQueues, err error) {
	if data.Queues, err = h.kept.Queues(ctx); err != nil {
		return data, err
	}
	if data.Crons, err = h.kept.Crons(ctx); err != nil {
		return data, err
	}
	for _, c := range data.Queues {
		if queue == "" && c.Dead > 0 {
			err = errors.Join(err, h.add(ctx, &data, c.Queue, Dead, "Failed in "+c.Queue))
		}
	}
	if queue != "" {
		err = errors.Join(h.add(ctx, &data, queue, Dead, "Failed in "+queue), h.add(ctx, &data, queue, Waiting, "Waiting in "+queue),
			h.add(ctx, &data, queue, Leased, "Worked on in "+queue))
	}
	return data, err
}

func (h handlers) add(ctx context.Context, data *shownQueues, queue string, state State, title string) error {
	all, more, err := h.kept.List(ctx, queue, state, 0, pageSize)
	if err != nil {
		return err
	}
	list := shownList{Title: title, More: more}
	for _, m := range all {
		list.Messages = append(list.Messages, showMessage(m))
	}
	data.Lists = append(data.Lists, list)
	return nil
}

func showMessage(m Message) shownMessage {
	shown := shownMessage{ID: m.ID, Queue: m.Queue, Error: m.Error, CanRetry: m.State != Leased}
	at := m.DueAt.Format(time.DateTime + " UTC")
	switch m.State {
	case Dead:
		shown.Says = fmt.Sprintf("failed %d times, the last at %s", m.Attempt, at)
	case Leased:
		shown.Says = fmt.Sprintf("attempt %d, until %s", m.Attempt, at)
	default:
		shown.Says = fmt.Sprintf("attempt %d from %s on", m.Attempt+1, at)
	}
	j := messageJSON(m, false)
	switch {
	case j.Value != nil:
		shown.Preview = string(j.Value)
	case j.Text != nil:
		shown.Preview = *j.Text
	default:
		shown.Preview = fmt.Sprintf("%d bytes", len(m.Body))
	}
	if len(shown.Preview) > previewBytes {
		shown.Preview = strings.ToValidUTF8(shown.Preview[:previewBytes], "") + "…"
	}
	return shown
}

// doing answers a button.
func (h handlers) doing(do func(ctx context.Context, queue string, id int64) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queue := r.PostFormValue("queue")
		id, err := parseID(r.PostFormValue("id"))
		if err == nil {
			err = refusal(do(r.Context(), queue, id))
		}
		if p, ok := errors.AsType[*problem.Problem](err); ok {
			h.write(w, r, p.Status, p.Detail, queue)
			return
		}
		http.Redirect(w, r, "/queue?"+url.Values{"queue": {queue}}.Encode(), http.StatusSeeOther)
	})
}
