"""Thousands of series in one batched solve: each chooses its order, and is forecast with an interval."""

import numpy as np

import sightline as sl

generator = np.random.default_rng(0)
noise = generator.normal(size=(2000, 302))
series = np.zeros((2000, 302))
for at in range(2, 302):  # 2,000 series of one law: x_t = 0.6 x_{t-1} - 0.3 x_{t-2} + e_t
    series[:, at] = 0.6 * series[:, at - 1] - 0.3 * series[:, at - 2] + noise[:, at]
past, future = series[:, 2:290], series[:, 290:]

fitted = sl.AR("bic").fit(past)
ahead = fitted.predict(12)
low, high = ahead.interval(95)
print("mean of phi:", (sl.AR(2).fit(past).phi.mean(0)).round(2))
print("order 2 was chosen by", f"{(fitted.orders == 2).mean():.0%}")
print("within the 95% interval:", f"{((future >= low) & (future <= high)).mean():.0%}")
