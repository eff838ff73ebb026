"""Speed of FusedLSTM next to torch.nn.LSTM: ``python -m benchmarks``."""
