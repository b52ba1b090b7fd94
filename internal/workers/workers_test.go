package workers_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/workers"
)

// A task never waits for another: a thousand that wait for each other all run.
func TestTasksDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workers.New()
		var all sync.WaitGroup
		all.Add(1000)
		for range 1000 {
			g.Go(func() {
				all.Done()
				all.Wait()
			})
		}
		all.Wait()
		g.Close() // synctest notices a goroutine that is left
	})
}

// Tasks one after the other share a goroutine, and one that nobody needs ends.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := workers.New()
		done := make(chan struct{})
		for range 100 {
			g.Go(func() { done <- struct{}{} })
			<-done
			synctest.Wait()
		}
		<-time.After(time.Minute) // of the bubble: no goroutine waits for so long
		g.Go(func() { done <- struct{}{} })
		<-done
		g.Close()
	})
}

func BenchmarkGo(b *testing.B) {
	g := workers.New()
	defer g.Close()
	done := make(chan struct{})
	b.ReportAllocs()
	for b.Loop() {
		g.Go(func() { done <- struct{}{} })
		<-done
	}
}
