package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// The scopes of this API.
const (
	ScopeRead  auth.Scope = "live:read"
	ScopeWrite auth.Scope = "live:write"
)

// Limits is what this API takes.
var Limits = mount.Limits{BodyBytes: MaxDataBytes, Lasting: 64}

const path = "/api/live"

// Register puts the hub on an API's place.
func Register(m *mount.Mount, h *Hub) {
	hs := handlers{h}
	huma.Register(m.API, huma.Operation{
		OperationID: "live-publish", Method: http.MethodPost, Path: path + "/publish", Tags: []string{"live"}, Security: auth.Needs(ScopeWrite),
		Summary: "Pass an event on to whoever listens to a topic", DefaultStatus: http.StatusCreated,
		Errors: []int{http.StatusForbidden, http.StatusUnprocessableEntity},
	}, hs.publish)
	huma.Register(m.API, huma.Operation{
		OperationID: "live-presence", Method: http.MethodGet, Path: path + "/presence", Tags: []string{"live"}, Security: auth.Needs(ScopeRead),
		Summary: "List who listens to a topic", RejectUnknownQueryParameters: true,
		Errors: []int{http.StatusForbidden, http.StatusUnprocessableEntity},
	}, hs.presence)
	lasting := mount.Route{Scope: ScopeRead, Lasting: true}
	m.Handle("GET "+path+"/events", lasting, http.HandlerFunc(hs.events))
	m.Handle("GET "+path+"/socket", lasting, http.HandlerFunc(hs.socket))
	hs.registerPage(m)
}

type handlers struct{ *Hub }

type publishInput struct {
	Body struct {
		Topic string `json:"topic" minLength:"1" maxLength:"128"`
		Data  any    `json:"data" doc:"any JSON"`
	}
}

type publishOutput struct {
	Body struct {
		ID string `json:"id"`
	}
}

func (h handlers) publish(_ context.Context, in *publishInput) (*publishOutput, error) {
	data, err := json.Marshal(in.Body.Data)
	if err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "body.data: "+err.Error())
	}
	e, err := h.byCaller(in.Body.Topic, data)
	if err != nil {
		return nil, refusal(err)
	}
	out := &publishOutput{}
	out.Body.ID = e.ID
	return out, nil
}

// errFeed says that a topic is an API's.
var errFeed = errors.New("topic: only the API itself publishes on its feed")

// byCaller publishes what is not an API's to say.
func (h handlers) byCaller(topic string, data json.RawMessage) (Event, error) {
	if strings.HasPrefix(topic, FeedPrefix) {
		return Event{}, errFeed
	}
	return h.Publish(topic, data)
}

// mayListen says why a caller may not: a feed tells what its API keeps, which
// takes that API's own scope.
func mayListen(ctx context.Context, topics []string) *problem.Problem {
	for _, topic := range topics {
		feed, isFeed := strings.CutPrefix(topic, FeedPrefix)
		if !isFeed {
			continue
		}
		api, _, _ := strings.Cut(feed, "/")
		scope, err := auth.ParseScope(api + ":read")
		if err != nil {
			return problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("topic: %.140q is no feed", topic))
		}
		if refused := auth.Check(ctx, scope); refused != nil {
			return refused
		}
	}
	return nil
}

type presenceInput struct {
	Topic string `query:"topic" required:"true" minLength:"1" maxLength:"128"`
}

type presenceOutput struct {
	Body struct {
		Members []Member `json:"members"`
	}
}

func (h handlers) presence(ctx context.Context, in *presenceInput) (*presenceOutput, error) {
	if err := CheckTopic(in.Topic); err != nil {
		return nil, refusal(err)
	}
	if refused := mayListen(ctx, []string{in.Topic}); refused != nil {
		return nil, refused
	}
	out := &presenceOutput{}
	out.Body.Members = h.Present(in.Topic)
	return out, nil
}

func refusal(err error) *problem.Problem {
	switch {
	case errors.Is(err, errFeed):
		return problem.New(http.StatusForbidden, "feed", err.Error())
	case errors.Is(err, ErrTopic):
		return problem.Of(http.StatusUnprocessableEntity, "topic: "+err.Error())
	case errors.Is(err, ErrAfter):
		return problem.Of(http.StatusUnprocessableEntity, "after: "+err.Error())
	case errors.Is(err, ErrTooLong):
		return problem.New(http.StatusRequestEntityTooLarge, "too-large", "data: "+err.Error())
	}
	return problem.Of(http.StatusInternalServerError, "passing events on failed: "+err.Error())
}
