"""What runs when: galleries with their locks, key epochs, the queue, the comparison itself."""
