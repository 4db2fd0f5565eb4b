//go:build integration

package apps

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
)

func nginxScript(ctx context.Context, v *visitor, round int) {
	page := pick(v, 1, 21) + round%20
	v.get(ctx, fmt.Sprintf("/page%d.txt", page), fmt.Sprintf("page %d\n", page))
	v.get(ctx, "/", "Welcome to nginx")
	v.send(ctx, http.MethodHead, fmt.Sprintf("/page%d.txt", page), "", nil, http.StatusOK, "")
	v.send(ctx, http.MethodGet, fmt.Sprintf("/page%d.txt", page), "", map[string]string{"Range": "bytes=0-9"}, http.StatusPartialContent, "page")
	v.send(ctx, http.MethodGet, "/page1.txt", "", map[string]string{"Accept-Encoding": "gzip"}, http.StatusOK, "\x1f\x8b")
	v.send(ctx, http.MethodGet, "/", "", map[string]string{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, http.StatusNotModified, "")
	v.send(ctx, http.MethodGet, fmt.Sprintf("/missing%d", round), "", nil, http.StatusNotFound, "")
	v.get(ctx, fmt.Sprintf("/api/page%d.txt?n=%d", page, round), fmt.Sprintf("page %d\n", page))
	upload := fmt.Sprintf("/upload/%s/%s.txt", v.name(round%9), v.name(round))
	v.send(ctx, http.MethodPut, upload, strings.Repeat("x", pick(v, 20000, 61234)), nil, http.StatusCreated, "")
	v.get(ctx, upload, "xxx")
	v.send(ctx, "MOVE", upload, "", map[string]string{"Destination": v.base + upload + ".old", "Overwrite": "T"}, http.StatusNoContent, "")
	v.send(ctx, http.MethodDelete, upload+".old", "", nil, http.StatusNoContent, "")
	if round%50 == 0 && v.number == 0 {
		v.execute(ctx, 1, "", "", "nginx", "-s", "reload")
	}
}

func pick2[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

func phpScript(ctx context.Context, v *visitor, round int) {
	v.get(ctx, fmt.Sprintf("/?name=%s%d", pick(v, "ann", "zoe"), round), fmt.Sprintf("hello %s%d from php", pick(v, "ann", "zoe"), round))
	v.get(ctx, "/app.php?do=session", fmt.Sprintf("visit %d", round+1))
	part := pick(v, 1, 7) + round%6
	v.get(ctx, fmt.Sprintf("/app.php?do=part&n=%d", part), fmt.Sprintf("part %d", part))
	v.get(ctx, fmt.Sprintf("/app.php?do=note&name=%s&text=hi", v.name(round%12)), "lines")
	v.get(ctx, fmt.Sprintf("/app.php?do=sort&n=%d", pick(v, 2000, 5000)), "sorted")
	v.get(ctx, "/app.php?do=list", "")
	v.send(ctx, http.MethodGet, "/app.php?do=nothing", "", nil, http.StatusNotFound, "")
	name := v.name(round) + ".jpg"
	body, kind := form(name, pick(v, 30000, 90001))
	v.send(ctx, http.MethodPost, "/app.php?do=upload", body, map[string]string{"Content-Type": kind}, http.StatusOK, "and removed")
}

// form is an upload as a browser sends it.
func form(name string, size int) (body, kind string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", name)
	_, _ = part.Write(bytes.Repeat([]byte("p"), size))
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

func nodeScript(ctx context.Context, v *visitor, round int) {
	v.get(ctx, "/", "hello from node")
	if round%8 == 0 {
		v.get(ctx, "/note", "a note")
	}
	size := pick(v, 1000, 70000) + round
	v.send(ctx, http.MethodPost, "/file?name="+v.name(round), strings.Repeat("n", size), nil, http.StatusOK, fmt.Sprintf("%d bytes", size))
	v.send(ctx, http.MethodPost, "/file?keep&name=kept_"+v.name(round%10), "nn", nil, http.StatusOK, "2 bytes")
	v.get(ctx, "/list", ".txt")
	v.get(ctx, fmt.Sprintf("/hash?text=%s%d", pick(v, "a", "bb"), round), "")
	v.get(ctx, fmt.Sprintf("/pack?size=%d", pick(v, 5000, 300000)), "bytes")
	v.get(ctx, "/worker", "sum 499500")
}

func tomcatScript(ctx context.Context, v *visitor, round int) {
	v.get(ctx, "/", "hello from tomcat 42")
	page := round%5 + 1
	v.get(ctx, fmt.Sprintf("/%s%d.jsp", pick(v, "page", "letter"), page), fmt.Sprintf("page %d %d", page, page*page))
	v.get(ctx, "/session.jsp", fmt.Sprintf("visit %d", 2*round+1))
	lines := pick(v, 100, 2000) + round
	v.get(ctx, fmt.Sprintf("/file.jsp?lines=%d&text=%s", lines, pick(v, "t", "uuu")), fmt.Sprintf("%d lines", lines))
	v.send(ctx, http.MethodGet, fmt.Sprintf("/missing%d.jsp", round), "", nil, http.StatusNotFound, "")
	v.send(ctx, http.MethodPost, "/session.jsp", strings.Repeat("q", pick(v, 3000, 40000)), nil, http.StatusOK, "visit")
}
