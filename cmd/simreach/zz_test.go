package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestZZSpeed(t *testing.T) {
	b := newTestbed(t)
	got := make(chan int64, 1)
	b.device(b.net+"11:7010", func(c *net.TCPConn) { n, _ := io.Copy(io.Discard, c); got <- n })
	b.device(b.net+"11:7011", func(c *net.TCPConn) {
		buf := make([]byte, 1<<20)
		for range 500 { c.Write(buf) }
	})
	dd := exec.Command("dd", "if=/dev/zero", "bs=64k", "count=8000", "status=none")
	r, w, _ := os.Pipe()
	dd.Stdout = w
	c := command(t, b.login("connect", "--imsi", ueOne, "--port", "7010")...)
	c.Stdin = r
	begin := time.Now()
	c.Start(); dd.Start(); w.Close(); r.Close()
	c.Wait(); dd.Wait()
	n := <-got
	t.Logf("up %d in %s: %.0f MB/s", n, time.Since(begin), float64(n)/1e6/time.Since(begin).Seconds())
	c = command(t, b.login("connect", "--imsi", ueOne, "--port", "7011")...)
	or, ow, _ := os.Pipe()
	c.Stdout = ow
	c.Start(); ow.Close()
	begin = time.Now()
	m, _ := io.Copy(io.Discard, or)
	t.Logf("down %d in %s: %.0f MB/s", m, time.Since(begin), float64(m)/1e6/time.Since(begin).Seconds())
	c.Wait(); or.Close()
}
