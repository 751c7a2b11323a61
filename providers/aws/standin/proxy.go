package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// maxBody is more than any request of these APIs.
const maxBody = 4 << 20

// credential is the access key, the region and the service of a request, as its
// signature names them (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
var credential = regexp.MustCompile(`Credential=([^/]+)/[0-9]+/([^/]+)/([^/]+)/aws4_request`)

// call is one request.
type call struct {
	r       *http.Request
	body    []byte
	key     string
	service string
	// action is the API's name for it; form are the parameters of EC2's.
	action string
	form   url.Values
}

// answer is what is sent back. An empty one is a connection that is cut.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// refusal is an error as the API writes it.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers a request, with moto's help.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := read(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.called(permissions(in)...)
	out, refused := c.answer(in)
	if refused != nil {
		out = c.write(in, refused)
	}
	if out.status == 0 {
		// The server cuts the connection of a handler that panics so.
		panic(http.ErrAbortHandler)
	}
	for _, name := range []string{"Content-Type", "X-Amzn-Errortype", "X-Amzn-Requestid", "X-Amz-Checksum", "X-Amz-Checksum-Algorithm"} {
		if v := out.header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(c.led(out.body))
}

func read(w http.ResponseWriter, r *http.Request) (*call, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	in := &call{r: r, body: body}
	if found := credential.FindStringSubmatch(r.Header.Get("Authorization")); found != nil {
		in.key, in.service = found[1], found[3]
	}
	switch in.service {
	case "ec2":
		if in.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, fmt.Errorf("reading the form: %w", err)
		}
		in.action = in.form.Get("Action")
	case "ebs":
		in.action = ebsAction(r)
	default:
		_, in.action, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	}
	return in, nil
}

// permissions are what IAM asks for. Making something with tags asks for
// CreateTags too:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
func permissions(in *call) []string {
	out := []string{in.service + ":" + in.action}
	tagged := in.action == "StartSnapshot" && bytes.Contains(in.body, []byte(`"Tags"`))
	for name := range in.form {
		tagged = tagged || strings.HasPrefix(name, "TagSpecification.")
	}
	if tagged {
		out = append(out, "ec2:CreateTags")
	}
	return out
}

func (c *Cloud) answer(in *call) (answer, *refusal) {
	if refused := c.refusal(in); refused != nil {
		return answer{}, refused
	}
	switch in.service {
	case "ec2":
		return c.ec2(in)
	case "ebs":
		return c.ebs(in)
	}
	return c.forward(in)
}

// forward hands a request to moto.
func (c *Cloud) forward(in *call) (answer, *refusal) {
	return c.send(in.r.Context(), in.r.Method, in.r.URL.RequestURI(), in.r.Header, in.body)
}

func (c *Cloud) send(ctx context.Context, method, uri string, header http.Header, body []byte) (answer, *refusal) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, c.moto.url+uri, bytes.NewReader(body))
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	req.Header = header.Clone()
	req.Header.Del("Accept-Encoding")
	resp, err := c.moto.client.Do(req)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	return answer{resp.StatusCode, resp.Header, said}, nil
}

// ask sends moto an EC2 request of the proxy's own, signed as the caller's was:
// moto reads of a signature which service is meant.
func (c *Cloud) ask(ctx context.Context, authorization, action string, form url.Values) (*node, error) {
	form.Set("Action", action)
	form.Set("Version", "2016-11-15")
	header := http.Header{"Authorization": {authorization}, "Content-Type": {"application/x-www-form-urlencoded"}}
	out, refused := c.send(ctx, http.MethodPost, "/", header, []byte(form.Encode()))
	if refused != nil {
		return nil, refused
	}
	if out.status != http.StatusOK {
		return nil, fmt.Errorf("moto answered %s with %d: %.300s", action, out.status, out.body)
	}
	return parseXML(out.body)
}

// write is a refusal in the words of the service.
func (c *Cloud) write(in *call, r *refusal) answer {
	c.mu.Lock()
	c.requests++
	id := fmt.Sprintf("standin-%08d", c.requests)
	c.mu.Unlock()
	header := http.Header{"X-Amzn-Requestid": {id}}
	if in.service == "ec2" {
		header.Set("Content-Type", "text/xml;charset=UTF-8")
		n := branch("Response", branch("Errors", branch("Error", leaf("Code", r.code), leaf("Message", r.message))), leaf("RequestID", id))
		return answer{r.status, header, n.bytes()}
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Amzn-Errortype", r.code)
	body, err := json.Marshal(map[string]string{"Message": r.message, "__type": r.code})
	if err != nil {
		panic(err)
	}
	return answer{r.status, header, body}
}
