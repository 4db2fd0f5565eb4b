package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// largestAnswer bounds what is read from an engine: its answers here are a few kilobytes.
const largestAnswer = 4 << 20

// docker speaks the part of the Docker Engine API that the demo needs, over its socket.
type docker struct {
	socket string
	http   *http.Client
}

func newDocker(socket string) *docker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &docker{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4}}}
}

// call sends one request and decodes the answer into out, which may be nil.
func (d *docker) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	kind := "application/json"
	switch v := in.(type) {
	case nil:
	case io.Reader:
		body, kind = v, "application/x-tar"
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	response, err := d.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the container engine (%s %s): %w", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return fmt.Errorf("read the container engine's answer (%s %s): %w", method, path, err)
	}
	if response.StatusCode >= 300 && response.StatusCode != http.StatusNotModified {
		return &engineError{method + " " + path, response.StatusCode, refusal(data)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// engineError is what an engine refused.
type engineError struct {
	call   string
	status int
	reason string
}

func (e *engineError) Error() string {
	return fmt.Sprintf("the container engine refused %s: %s (%d)", e.call, e.reason, e.status)
}

func refusal(data []byte) string {
	var answer struct{ Message string }
	if json.Unmarshal(data, &answer) == nil && answer.Message != "" {
		return answer.Message
	}
	return strings.TrimSpace(string(data))
}

func isMissing(err error) bool {
	var e *engineError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}

func (d *docker) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.call(ctx, "GET", "/version", nil, nil)
}

// load imports a docker-archive and returns the id of the image that ref names then.
func (d *docker) load(ctx context.Context, archive io.Reader, ref string) (string, error) {
	if err := d.call(ctx, "POST", "/images/load?quiet=1", archive, nil); err != nil {
		return "", fmt.Errorf("load the shop's image: %w", err)
	}
	var image struct{ ID string }
	if err := d.call(ctx, "GET", "/images/"+ref+"/json", nil, &image); err != nil {
		return "", fmt.Errorf("find the image just loaded: %w", err)
	}
	return image.ID, nil
}

func (d *docker) removeImage(ctx context.Context, ref string) error {
	return d.call(ctx, "DELETE", "/images/"+ref+"?force=1", nil, nil)
}

// run creates and starts a container.
func (d *docker) run(ctx context.Context, name string, config map[string]any) (container, error) {
	var created struct{ ID string }
	if err := d.call(ctx, "POST", "/containers/create?name="+url.QueryEscape(name), config, &created); err != nil {
		return container{}, fmt.Errorf("create container %s: %w", name, err)
	}
	if err := d.call(ctx, "POST", "/containers/"+created.ID+"/start", nil, nil); err != nil {
		return container{ID: created.ID}, fmt.Errorf("start container %s: %w", name, err)
	}
	return d.inspect(ctx, created.ID)
}

// container is what the demo needs to know about a running one.
type container struct {
	ID      string
	PID     int
	Address string
}

func (d *docker) inspect(ctx context.Context, id string) (container, error) {
	var answer struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := d.call(ctx, "GET", "/containers/"+id+"/json", nil, &answer); err != nil {
		return container{ID: id}, err
	}
	c := container{ID: id, PID: answer.State.Pid}
	for _, n := range answer.NetworkSettings.Networks {
		c.Address = n.IPAddress
	}
	return c, nil
}

// logs returns the last lines a container wrote, for an error message.
func (d *docker) logs(ctx context.Context, id string) string {
	request, err := http.NewRequestWithContext(ctx, "GET", "http://engine/containers/"+id+"/logs?stdout=1&stderr=1&tail=5", nil)
	if err != nil {
		return ""
	}
	response, err := d.http.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
	return strings.TrimSpace(strings.Map(printable, string(data)))
}

// printable keeps what may be shown on a terminal.
func printable(r rune) rune {
	if r == '\n' || r >= ' ' && r != 0x7f && r < 0x80 || r > 0x9f {
		return r
	}
	return -1
}

func (d *docker) remove(ctx context.Context, id string) error {
	err := d.call(ctx, "DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}

// network makes a bridge of our own, so that the demo touches no other container.
func (d *docker) network(ctx context.Context, name, bridge string, net subnet) (string, error) {
	var created struct{ ID string }
	err := d.call(ctx, "POST", "/networks/create", map[string]any{
		"Name": name, "Driver": "bridge", "CheckDuplicate": true,
		"Options": map[string]string{"com.docker.network.bridge.name": bridge, "com.docker.network.bridge.enable_ip_masquerade": "false"},
		"IPAM":    map[string]any{"Config": []map[string]string{{"Subnet": net.CIDR, "Gateway": net.Gateway}}},
	}, &created)
	return created.ID, err
}

func (d *docker) removeNetwork(ctx context.Context, id string) error {
	err := d.call(ctx, "DELETE", "/networks/"+id, nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}
