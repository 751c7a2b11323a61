package queue

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/mount"
)

const cronPath = "/api/cron"

// registerManaging registers what its owner looks at and repairs.
func (h handlers) registerManaging(m *mount.Mount) {
	huma.Register(m.API, operation(ScopeManage, "queue-queues", http.MethodGet, base, "Count what each queue holds"), h.queues)
	huma.Register(m.API, operation(ScopeManage, "queue-list", http.MethodGet, base+"/{queue}", "List messages of a queue"), h.list)
	huma.Register(m.API, operation(ScopeManage, "queue-get", http.MethodGet, messagePath, "Read one message", http.StatusNotFound), h.get)
	remove := operation(ScopeManage, "queue-delete", http.MethodDelete, messagePath, "Delete a message", http.StatusNotFound)
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, remove, h.delete)
	retry := operation(ScopeManage, "queue-retry", http.MethodPost, messagePath+"/retry", "Try a dead message again, or one that waits at once", http.StatusNotFound)
	retry.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, retry, h.retry)

	huma.Register(m.API, operation(ScopeManage, "cron-list", http.MethodGet, cronPath, "List schedules"), h.crons)
	huma.Register(m.API, operation(ScopeManage, "cron-put", http.MethodPut, cronPath+"/{name}", "Enqueue a message on a schedule, in UTC",
		http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage), h.putCron)
	end := operation(ScopeManage, "cron-delete", http.MethodDelete, cronPath+"/{name}", "End a schedule", http.StatusNotFound)
	end.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, end, h.deleteCron)
}

type countsJSON struct {
	Queue   string `json:"queue"`
	Waiting int64  `json:"waiting" doc:"due, and nobody has them"`
	Delayed int64  `json:"delayed"`
	Leased  int64  `json:"leased"`
	Dead    int64  `json:"dead"`
}

type queuesOutput struct {
	Body struct {
		Queues []countsJSON `json:"queues"`
	}
}

func (h handlers) queues(ctx context.Context, _ *struct{}) (*queuesOutput, error) {
	all, err := h.kept.Queues(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	out := &queuesOutput{}
	out.Body.Queues = make([]countsJSON, 0, len(all))
	for _, c := range all {
		out.Body.Queues = append(out.Body.Queues, countsJSON(c))
	}
	return out, nil
}

type listInput struct {
	Queue string `path:"queue" maxLength:"64"`
	State string `query:"state" enum:"waiting,leased,dead" default:"waiting"`
	After string `query:"after" maxLength:"20" doc:"the id of the last message of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
}

type listOutput struct {
	Body struct {
		Messages []MessageJSON `json:"messages"`
		Next     string        `json:"next,omitempty" doc:"the value of after for the next page; there is none on the last"`
	}
}

var states = map[string]State{"waiting": Waiting, "leased": Leased, "dead": Dead}

func (h handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	after := int64(0)
	if in.After != "" {
		var err error
		if after, err = parseID(in.After); err != nil {
			return nil, err
		}
	}
	all, more, err := h.kept.List(ctx, in.Queue, states[in.State], after, in.Limit)
	if err != nil {
		return nil, refusal(err)
	}
	out := &listOutput{}
	out.Body.Messages = make([]MessageJSON, 0, len(all))
	for _, m := range all {
		out.Body.Messages = append(out.Body.Messages, messageJSON(m, false))
	}
	if more {
		out.Body.Next = strconv.FormatInt(all[len(all)-1].ID, 10)
	}
	return out, nil
}

type messageInput struct {
	Queue string `path:"queue" maxLength:"64"`
	ID    string `path:"id" maxLength:"20"`
}

type messageOutput struct{ Body MessageJSON }

func (h handlers) get(ctx context.Context, in *messageInput) (*messageOutput, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	m, err := h.kept.Get(ctx, in.Queue, id)
	if err != nil {
		return nil, refusal(err)
	}
	return &messageOutput{Body: messageJSON(m, false)}, nil
}

func (h handlers) delete(ctx context.Context, in *messageInput) (*struct{}, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Delete(ctx, in.Queue, id))
}

func (h handlers) retry(ctx context.Context, in *messageInput) (*struct{}, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Retry(ctx, in.Queue, id))
}

type cronJSON struct {
	Name        string     `json:"name"`
	Schedule    string     `json:"schedule"`
	Queue       string     `json:"queue"`
	ContentType string     `json:"content_type,omitempty"`
	Next        time.Time  `json:"next"`
	Last        *time.Time `json:"last,omitempty"`
}

func shownCron(c Cron) cronJSON {
	j := cronJSON{Name: c.Name, Schedule: c.Spec, Queue: c.Job.Queue, ContentType: c.Job.ContentType, Next: c.Next}
	if !c.Last.IsZero() {
		j.Last = &c.Last
	}
	return j
}

type cronsOutput struct {
	Body struct {
		Crons []cronJSON `json:"crons"`
	}
}

func (h handlers) crons(ctx context.Context, _ *struct{}) (*cronsOutput, error) {
	all, err := h.kept.Crons(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	out := &cronsOutput{}
	out.Body.Crons = make([]cronJSON, 0, len(all))
	for _, c := range all {
		out.Body.Crons = append(out.Body.Crons, shownCron(c))
	}
	return out, nil
}

type cronInput struct {
	Name        string `path:"name" maxLength:"64"`
	Schedule    string `query:"schedule" required:"true" maxLength:"200" doc:"minute, hour, day of the month, month, day of the week, as 30 4 * * mon-fri; in UTC"`
	Queue       string `query:"queue" required:"true" maxLength:"64"`
	Backoff     string `query:"backoff" doc:"as of a message"`
	ContentType string `header:"Content-Type"`
	RawBody     []byte
}

type cronOutput struct{ Body cronJSON }

func (h handlers) putCron(ctx context.Context, in *cronInput) (*cronOutput, error) {
	backoff, err := parseBackoff(in.Backoff)
	if err != nil {
		return nil, err
	}
	c, err := h.kept.PutCron(ctx, Cron{Name: in.Name, Spec: in.Schedule, Job: Job{
		Queue: in.Queue, ContentType: in.ContentType, Body: in.RawBody, Backoff: backoff,
	}})
	if err != nil {
		return nil, refusal(err)
	}
	return &cronOutput{Body: shownCron(c)}, nil
}

func (h handlers) deleteCron(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"64"`
}) (*struct{}, error) {
	return nil, refusal(h.kept.DeleteCron(ctx, in.Name))
}
